//! What does the program say when it cannot start?

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use crate::harness::{BINARY, Server};

/// Exit code and standard error of a start that must fail.
pub(crate) fn failed_start(arguments: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(BINARY)
        .arg("serve")
        .args(arguments)
        .env("DISCOVERY_SERVER_DATA_DIR", directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

pub(crate) fn assert_explains(error: &str, words: &[&str]) {
    for word in ["why: ", "fix: "].iter().chain(words) {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

pub(crate) const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0"];

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start();
    let (http, stun) = (server.http.to_string(), server.stun.to_string());
    let (code, error) = failed_start(&["--listen", &http, "--stun-listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert_explains(&error, &["HTTP", &http, "in use"]);
    let (code, error) = failed_start(&["--listen", "127.0.0.1:0", "--stun-listen", &stun]);
    assert_eq!(code, 1);
    assert_explains(&error, &["STUN", &stun, "in use"]);
}

#[test]
fn unusable_databases_are_named() {
    let nobody_there = "postgres://user:hunter2@127.0.0.1:1/mesh";
    let (code, error) = failed_start(&[&FREE[..], &["--database", nobody_there]].concat());
    assert_eq!(code, 1);
    assert_explains(&error, &["PostgreSQL", "refused", "psql"]);
    assert!(!error.contains("hunter2"));
    let (code, error) = failed_start(&["--database", "mysql://host/mesh"]);
    assert_eq!(code, 2);
    assert_explains(&error, &["sqlite://", "postgres://"]);

    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("damaged.sqlite");
    fs::write(
        &damaged,
        "this is no database, whatever its name says".repeat(100),
    )
    .unwrap();
    let url = format!("sqlite://{}", damaged.display());
    let (code, error) = failed_start(&[&FREE[..], &["--database", &url]].concat());
    assert_eq!(code, 1);
    assert_explains(&error, &["damaged.sqlite", "not a database"]);
}

#[test]
fn a_database_file_serves_one_server_at_a_time() {
    let server = Server::start_on_file(&[]);
    let url = format!(
        "sqlite://{}",
        server.data.join("discovery.sqlite").display()
    );
    let (code, error) = failed_start(&[&FREE[..], &["--database", &url]].concat());
    assert_eq!(code, 1);
    assert_explains(&error, &["another discovery-server"]);
}

#[test]
fn a_given_admin_token_file_must_hold_a_token() {
    let (code, error) =
        failed_start(&[&FREE[..], &["--admin-token-file", "/nowhere/token"]].concat());
    assert_eq!(code, 1);
    assert_explains(&error, &["/nowhere/token"]);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["--bogus"][..],
        &["--listen", "nowhere"],
        &["--public-ip", "x"],
    ] {
        assert_eq!(failed_start(arguments).0, 2, "{arguments:?}");
    }
    let output = Command::new(BINARY).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_the_server_stores_is_private() {
    let server = Server::start_on_file(&[]);
    for name in ["admin-token", "discovery.sqlite", "discovery.sqlite-wal"] {
        let mode = fs::metadata(server.data.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Exit code 1, and standard error, of a command that must fail.
fn failed(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_backup_or_a_restore_of_what_is_not_there_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (here, absent, copy) = (at(""), at("absent"), at("copy"));
    let backup = ["backup", "--data-dir", &absent, "--to", &copy];
    assert_explains(&failed(&backup), &["no database", &absent, "--data-dir"]);
    let restore = ["restore", "--data-dir", &absent, "--from", &copy];
    assert_explains(&failed(&restore), &["no directory", &absent, "--data-dir"]);
    let restore = ["restore", "--data-dir", &here, "--from", &copy];
    assert_explains(&failed(&restore), &["no file", &copy, "snapshots"]);
    assert_eq!(fs::read_dir(&here).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_directory_that_is_made_for_the_database_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent/below");
    let url = format!("sqlite://{}/x.sqlite", absent.display());
    // It ends after the database is open, for want of a token.
    let token = ["--admin-token-file", "/nowhere/token", "--database", &url];
    let (_, error) = failed_start(&[&FREE[..], &token].concat());
    assert!(
        error.contains("made it") && error.contains(absent.to_str().unwrap()),
        "{error}"
    );
    let (_, error) = failed_start(&[&FREE[..], &token].concat());
    assert!(!error.contains("made it"), "{error}");
}
