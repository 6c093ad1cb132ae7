//! What of a program's memory is left when it crashes?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::process::ExitStatusExt as _, time::Duration};

use netlab::{Host, Lab, Process, binary};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs a line of shell where a core may be as large as it is.
fn unlimited(host: &Host, line: &str) -> Process {
    let line = format!("ulimit -c unlimited; exec {line}");
    host.spawn("sh", ["-c", &line]).unwrap()
}

/// Ends a program as a crash does; whether its memory was written anywhere, or handed to whom the kernel hands cores.
fn dumps(process: &Process) -> bool {
    process.signal(Signal::SIGABRT).unwrap();
    let status = process.wait(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
    status.core_dumped()
}

#[test]
fn a_daemon_and_a_server_that_crash_leave_no_memory_behind() {
    let lab = Lab::new("dumps").unwrap();
    let host = lab.internet().public_host("pc").unwrap();
    let [meshd, server] = ["meshd", "discovery-server"].map(|name| binary(name).unwrap());
    let daemon = unlimited(&host, &format!("{} up --state-dir state", meshd.display()));
    daemon.wait_for_line("ready ", LIMIT).unwrap();
    let listen = "--listen 127.0.0.1:7180 --stun-listen 127.0.0.1:3578";
    let server = unlimited(
        &host,
        &format!("{} serve {listen} --data-dir data", server.display()),
    );
    server.wait_for_line("ready ", LIMIT).unwrap();
    for process in [&daemon, &server] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words, ["0", "0", "bytes"]);
        assert!(!dumps(process), "{}", process.label());
    }
    for entry in fs::read_dir(host.dir()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().starts_with("core"), "{name:?}");
    }
}
