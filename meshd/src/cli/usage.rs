//! What is a person told whose command line cannot be read? What is wrong with it, how the command is used, and where the
//! manual is, in the form of every other failure.

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{
    Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Prints the error, or the help that was asked for, and returns the exit code: 2, or 0 for help.
pub(super) fn report(root: &Command, words: &[OsString], mut error: Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // With nobody to read the help text, the exit code still says what it was.
        let _printed = error.print();
        return code;
    }
    let (command, path) = command_of(root, words);
    hide(&command, &mut error);
    let text = in_our_form(&error.render().to_string(), &path);
    // With standard error closed there is nobody left to tell; the exit code still says it.
    let _written = std::io::stderr().lock().write_all(text.as_bytes());
    code
}

/// The command that the words begin with, and its name as it is typed.
fn command_of(root: &Command, words: &[OsString]) -> (Command, String) {
    let (mut command, mut path) = (root.clone(), root.get_name().to_owned());
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--state-dir" {
            words.next();
        } else if let Some(below) = command.find_subcommand(word).cloned() {
            path = format!("{path} {}", below.get_name());
            command = below;
        }
    }
    (command, path)
}

/// Takes commands that are not shown out of the list of those that there are.
fn hide(command: &Command, error: &mut Error) {
    let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) else {
        return;
    };
    let is_shown = |name: &&String| {
        let known = command.find_subcommand(name);
        known.is_none_or(|known| !known.is_hide_set())
    };
    let shown = names.iter().filter(is_shown).cloned().collect();
    error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(shown));
}

/// The paragraphs of the argument parser, the usage as the reason, and the help of the command as the fix.
fn in_our_form(rendered: &str, command: &str) -> String {
    let mut text = String::new();
    let mut usage = None;
    for paragraph in rendered.trim_end().split("\n\n") {
        match paragraph.split_once("Usage: ") {
            Some(("", form)) => usage = Some(form),
            _ if paragraph.starts_with("For more information") => {}
            _ => {
                text.push_str(paragraph.trim_end());
                text.push('\n');
            }
        }
    }
    if let Some(form) = usage {
        text.push_str(&format!("  why: it is used so: {}\n", form.trim_end()));
    }
    text.push_str(&format!("  fix: see `{command} --help`\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_becomes_why_and_the_pointer_to_the_manual_names_the_command() {
        let rendered = "error: no\n  <PEER>\n\n  tip: yes\n\nUsage: meshd ping <PEER>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            in_our_form(rendered, "meshd ping"),
            "error: no\n  <PEER>\n  tip: yes\n  why: it is used so: meshd ping <PEER>\n  fix: see `meshd ping --help`\n"
        );
    }
}
