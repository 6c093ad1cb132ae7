//! Which commands belong to the interface, but not to this version?

use std::ffi::OsString;

use clap::{Args, Subcommand};
use mesh_wire::problem::Problem;

/// Each is known by name, so that nobody looks for a typing error.
#[derive(Debug, Subcommand)]
pub(super) enum UnbuiltCommand {
    #[command(hide = true, disable_help_flag = true)]
    Group(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Ls(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Get(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Put(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Send(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Mount(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Add(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Provide(Rest),
    #[command(hide = true, disable_help_flag = true)]
    Providing(Rest),
    #[command(hide = true, disable_help_flag = true)]
    List(Rest),
    #[command(hide = true, disable_help_flag = true)]
    DownloadStatus(Rest),
    #[command(hide = true, disable_help_flag = true)]
    CancelDownload(Rest),
}

/// Whatever else stands on the command line.
#[derive(Debug, Args)]
pub(super) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<OsString>,
}

/// Says which command is missing, and what serves instead.
pub(super) fn refuse(command: &UnbuiltCommand) -> Problem {
    let files = "fetch files with a browser or curl from the URL that `meshd share list --json` shows there";
    let (name, instead) = match command {
        UnbuiltCommand::Group(_) => ("group", "name each member instead"),
        UnbuiltCommand::Ls(_) => ("ls", files),
        UnbuiltCommand::Get(_) => ("get", files),
        UnbuiltCommand::Mount(_) => ("mount", files),
        UnbuiltCommand::Providing(_) => ("providing", files),
        UnbuiltCommand::List(_) => ("list", files),
        UnbuiltCommand::DownloadStatus(_) => ("download-status", files),
        UnbuiltCommand::CancelDownload(_) => ("cancel-download", files),
        UnbuiltCommand::Add(_) => ("add", "`meshd share add` shares a directory"),
        UnbuiltCommand::Provide(_) => ("provide", "`meshd share add` shares a directory"),
        UnbuiltCommand::Put(_) => (
            "put",
            "share the file here, and let the other side fetch it",
        ),
        UnbuiltCommand::Send(_) => (
            "send",
            "share the file here, and let the other side fetch it",
        ),
    };
    Problem::new(
        501,
        "option-not-built",
        format!("`meshd {name}` is not built in this version"),
    )
    .detail("the command is planned; nothing was done")
    .fix(instead)
}
