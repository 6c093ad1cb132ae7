//! What do the commands print, and how do they end? The real program against a real API server.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod api_fixture;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use api_fixture::{TestApi, example_link};
use serde_json::Value;

fn meshd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshd"));
    command
        .args(arguments)
        .env_remove("MESHD_STATE_DIR")
        .env_remove("MESHD_CONFIG")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    meshd(arguments).output().unwrap()
}

/// Runs a command against `api`, beside it.
async fn ask(api: &TestApi, arguments: &[&str]) -> Output {
    let mut command = meshd(arguments);
    command.env("MESHD_STATE_DIR", api.dir.path());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Exit code 1, and what, why and fix on standard error.
#[track_caller]
fn assert_failed(output: &Output, what: &str) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: "), "{error}");
    for part in [what, "\n  why: ", "\n  fix: "] {
        assert!(error.contains(part), "{part} is not in\n{error}");
    }
}

#[track_caller]
fn assert_done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    stdout(output)
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["ping"],
        &["ping", "bob", "-c", "0"],
        &["ping", "bob", "-c", "many"],
        &["share"],
        &["share", "add", "docs"],
        &["config", "check"],
        &["status", "--yaml"],
        &["up", "--join", "http://x", "--server", "http://y"],
        &["up", "--join", "http://x", "--network", "n"],
        &["--state-dir"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let error = stderr(&output);
        if error.starts_with("error: ") {
            assert!(
                error.contains("\n  fix: see `meshd"),
                "{arguments:?}: {error}"
            );
            assert!(error.ends_with("--help`\n"), "{arguments:?}: {error}");
        } else {
            assert!(error.contains("Usage: meshd"), "{arguments:?}: {error}");
        }
    }
}

#[test]
fn wrong_usage_names_the_help_of_its_command_and_no_command_that_is_not_there() {
    for (arguments, command) in [
        (&["ping"][..], "meshd ping"),
        (
            &["--state-dir", "up", "share", "grant", "x"],
            "meshd share grant",
        ),
        (&["--state-dir", "x"], "meshd"),
        (&["statsu"], "meshd"),
    ] {
        let error = stderr(&run(arguments));
        let fix = format!("\n  fix: see `{command} --help`\n");
        assert!(error.ends_with(&fix), "{arguments:?}: {error}");
    }
    for arguments in [&[][..], &["--state-dir", "x"], &["--help"]] {
        let output = run(arguments);
        let told = stdout(&output) + &stderr(&output);
        assert!(told.contains("netcheck"), "{told}");
        for absent in ["mount", "download-status", "group"] {
            assert!(!told.contains(absent), "{absent}: {told}");
        }
    }
}

#[test]
fn a_value_that_no_option_takes_is_wrong_usage_as_an_unknown_option_is() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    for arguments in [
        ["--cidr", "bogus"],
        ["--listen-port", "99999"],
        ["--name", "a b!"],
        ["--server", "ftp://x"],
        ["--api", "nope"],
        ["--interface", "a/b"],
    ] {
        let up = ["up", "--state-dir", state.to_str().unwrap()];
        let output = run(&[&up[..], &arguments].concat());
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(
            error.contains(arguments[0]) && error.contains("fix: "),
            "{error}"
        );
        assert!(!state.exists(), "nothing was begun");
    }
}

#[test]
fn an_answer_that_finds_no_room_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = meshd(&["config", "example"]);
    let output = command
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_failed(&output, "No space left");
    assert!(stderr(&output).contains("standard output"));
}

#[test]
fn help_and_version_are_no_failures() {
    for arguments in [
        &["--help"][..],
        &["up", "--help"],
        &["--version"],
        &["help", "share"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains("meshd"), "{arguments:?}");
    }
}

#[test]
fn every_command_says_that_no_daemon_runs_and_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let absent = absent.to_str().unwrap();
    for command in [
        &["status"][..],
        &["peers", "--json"],
        &["down"],
        &["ping", "bob"],
        &["invite"],
        &["revoke", "bob"],
        &["share", "list"],
        &["share", "add", "docs", "."],
        &["share", "rm", "docs"],
    ] {
        let before = [&["--state-dir", absent][..], command].concat();
        let after = [command, &["--state-dir", absent]].concat();
        for arguments in [before, after] {
            let output = run(&arguments);
            assert_failed(&output, absent);
            assert!(stderr(&output).contains("meshd up"), "{arguments:?}");
        }
    }
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_no_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("meshd.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let output = run(&["status", "--state-dir", dir.path().to_str().unwrap()]);
    assert_failed(&output, "no meshd runs here");
}

#[test]
fn options_that_are_not_built_yet_are_refused_by_name() {
    for (arguments, option) in [
        (&["share", "add", "docs", ".", "--rw"][..], "--rw"),
        (&["share", "grant", "docs", "bob", "--rw"], "--rw"),
    ] {
        assert_failed(&run(arguments), &format!("{option} is not built yet"));
    }
}

#[test]
fn a_command_that_is_not_built_yet_is_no_typing_error() {
    for name in [
        "group",
        "ls",
        "get",
        "put",
        "send",
        "mount",
        "add",
        "provide",
        "providing",
        "list",
        "download-status",
        "cancel-download",
    ] {
        for more in [&[][..], &["--json", "x"], &["--help"]] {
            let output = run(&[&[name], more].concat());
            assert_failed(&output, &format!("`meshd {name}` is not built"));
        }
        let help = stdout(&run(&["--help"]));
        let starts = |line: &str| line.trim_start().starts_with(&format!("{name} "));
        assert!(!help.lines().any(starts), "{help}");
    }
}

#[test]
fn a_state_directory_too_deep_for_a_socket_is_told_to_be_shorter() {
    let output = run(&[
        "--state-dir",
        &format!("/tmp/{}", "x".repeat(120)),
        "status",
    ]);
    assert_failed(&output, "--state-dir DIR");
}

#[test]
fn a_bad_join_link_is_refused_without_being_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let link = example_link().to_text();
    let secret = link.split('#').nth(1).unwrap();
    let cut = &link[..link.len() - 1];
    for bad in ["join me", "https://example.com/", cut] {
        let output = run(&["up", "--state-dir", state.to_str().unwrap(), "--join", bad]);
        assert_failed(&output, "join link");
        assert!(!stderr(&output).contains(&secret[..20]));
        assert!(!state.exists(), "nothing was begun");
    }
}

#[test]
fn the_example_configuration_passes_its_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meshd.yaml");
    let example = assert_done(&run(&["config", "example"]));
    assert!(example.contains("mesh:"), "{example}");
    std::fs::write(&file, example).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        assert_done(&run(&["config", "check", file])),
        format!("{file} is correct\n")
    );
}

#[test]
fn a_misspelt_key_fails_the_check_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meshd.yaml");
    std::fs::write(&file, "mesh:\n  conection:\n    direct_connect: true\n").unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()]);
    assert_failed(&output, "line 2");
    assert!(stderr(&output).contains("connection"));
    assert_failed(&run(&["config", "check", "/nowhere.yaml"]), "/nowhere.yaml");
    std::fs::write(&file, "mesh:\n  stun:\n    servers:\n      - foo\n").unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()]);
    assert_failed(&output, "line 4: mesh.stun.servers[0] must be stun:HOST");
}

#[tokio::test]
async fn status_is_readable_and_its_json_is_the_apis() {
    let api = TestApi::start().await;
    let text = assert_done(&ask(&api, &["status"]).await);
    for part in [
        "alice in my-network",
        "10.100.0.1",
        "bob",
        "direct",
        "via bob",
        "problem: tcp port 80",
        "fix: stop it",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let json: Value =
        serde_json::from_str(&assert_done(&ask(&api, &["status", "--json"]).await)).unwrap();
    assert_eq!(json, api.get("/api/v1/status").await.json());
    let text = assert_done(&ask(&api, &["peers"]).await);
    assert!(text.starts_with("NAME "), "{text}");
    assert!(text.contains("2.0 KiB"), "{text}");
    let peers: Value =
        serde_json::from_str(&assert_done(&ask(&api, &["peers", "--json"]).await)).unwrap();
    assert_eq!(peers, json["peers"]);
}

#[tokio::test]
async fn ping_prints_each_pong_and_a_summary() {
    let api = TestApi::start().await;
    let text = assert_done(&ask(&api, &["ping", "bob", "-c", "2"]).await);
    let pong = "pong from bob (10.100.0.2) via direct 198.51.100.7:7081 in 12.3 ms";
    let summary = "2 sent, 2 answered, round trip min/avg/max 12.3/12.3/12.3 ms";
    assert_eq!(text, format!("{pong}\n{pong}\n{summary}\n"));
    let text = assert_done(&ask(&api, &["ping", "bob", "--until-direct"]).await);
    assert_eq!(text.lines().count(), 2, "{text}");
    let relayed = ask(&api, &["ping", "carol", "--until-direct", "-c", "1"]).await;
    assert_failed(&relayed, "no direct path to carol");
    assert!(stdout(&relayed).contains("via relay bob 198.51.100.7:7081"));
    let silent = ask(&api, &["ping", "dave", "-c", "1"]).await;
    assert_failed(&silent, "dave did not answer");
    assert!(stdout(&silent).contains("1 sent, 0 answered"));
    assert_failed(&ask(&api, &["ping", "mallory"]).await, "mallory");
}

#[tokio::test]
async fn shares_are_managed_by_command() {
    let api = TestApi::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let mut add = meshd(&["share", "add", "docs", "sub"]);
    add.current_dir(folder.path())
        .env("MESHD_STATE_DIR", api.dir.path());
    let output = tokio::task::spawn_blocking(move || add.output().unwrap())
        .await
        .unwrap();
    let text = assert_done(&output);
    assert!(text.contains("http://10.100.0.1/docs/"), "{text}");
    assert!(
        text.contains("nobody may read it yet: meshd share grant docs PEER"),
        "{text}"
    );

    let text = assert_done(&ask(&api, &["share", "grant", "docs", "bob"]).await);
    assert_eq!(text, "docs may be read by: bob\n");
    let text = assert_done(&ask(&api, &["share", "list"]).await);
    let sub = folder.path().canonicalize().unwrap().join("sub");
    assert_eq!(
        text,
        format!("NAME  TO   PATH\ndocs  bob  {}\n", sub.display())
    );
    let json: Value =
        serde_json::from_str(&assert_done(&ask(&api, &["share", "list", "--json"]).await)).unwrap();
    assert_eq!(json[0]["name"], "docs");
    assert_done(&ask(&api, &["share", "revoke", "docs", "bob"]).await);
    assert_failed(
        &ask(&api, &["share", "revoke", "docs", "bob"]).await,
        "docs",
    );
    assert_done(&ask(&api, &["share", "rm", "docs"]).await);
    assert_failed(&ask(&api, &["share", "rm", "docs"]).await, "docs");
    assert_failed(&ask(&api, &["share", "rm", ".."]).await, "..");
}

#[tokio::test]
async fn invite_prints_the_link_and_nothing_else() {
    let api = TestApi::start().await;
    let text = assert_done(&ask(&api, &["invite"]).await);
    assert_eq!(text, format!("{}\n", example_link().to_text()));
    let limits = ["--uses", "1", "--expires", "12h", "--role", "admin"];
    let limited = [&["invite"][..], &limits].concat();
    assert_eq!(assert_done(&ask(&api, &limited).await), text);
}

#[test]
fn an_invite_without_sense_is_wrong_usage() {
    for wrong in [
        ["--uses", "0"],
        ["--uses", "many"],
        ["--expires", "7"],
        ["--expires", "500d"],
        ["--role", "root"],
    ] {
        let output = run(&[&["invite"][..], &wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(stderr(&output).contains(wrong[0]), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn down_returns_when_the_state_directory_is_free() {
    let api = TestApi::start().await;
    assert_eq!(assert_done(&ask(&api, &["down"]).await), "stopped\n");
    assert!(api.shutdown.is_cancelled());
    assert_failed(&ask(&api, &["status"]).await, "no meshd runs here");
}

#[tokio::test]
async fn a_closed_pipe_is_no_panic() {
    let api = TestApi::start().await;
    let mut command = meshd(&["status"]);
    command.env("MESHD_STATE_DIR", api.dir.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_done(&output);
}

#[test]
fn a_join_link_may_come_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = meshd(&[
        "up",
        "--join",
        "-",
        "--state-dir",
        dir.path().to_str().unwrap(),
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"http://nothing.test/\n")
        .unwrap();
    assert_failed(&child.wait_with_output().unwrap(), "join link");
}

#[tokio::test]
async fn the_discovery_servers_are_shown_and_changed() {
    let api = TestApi::start().await;
    let shown = assert_done(&ask(&api, &["servers"]).await);
    assert!(shown.starts_with("SERVER "), "{shown}");
    assert!(shown.contains("https://b.example/"), "{shown}");
    let urls = |output: &Output| -> Vec<String> {
        let answer: Value = serde_json::from_str(&assert_done(output)).unwrap();
        let servers = answer["servers"].as_array().unwrap().iter();
        servers
            .map(|server| server["url"].as_str().unwrap().to_owned())
            .collect()
    };
    let (a, b) = ("http://198.51.100.2:7080/", "https://b.example/");
    assert_eq!(urls(&ask(&api, &["servers", "--json"]).await), [a, b]);
    let shown = assert_done(&ask(&api, &["servers", "add", "c"]).await);
    assert_eq!(shown.lines().count(), 4, "{shown}");
    let shown = assert_done(&ask(&api, &["servers", "rm", "198.51.100.2"]).await);
    assert!(!shown.contains(a) && shown.contains(b), "{shown}");
    let shown = assert_done(&ask(&api, &["servers", "set", "d", "e"]).await);
    assert!(shown.contains("http://e:7080/  not asked yet"), "{shown}");
    assert_failed(&ask(&api, &["servers", "rm", "f"]).await, "is not used");
    assert_failed(
        &ask(&api, &["servers", "add", b]).await,
        "no list of discovery servers",
    );
}
