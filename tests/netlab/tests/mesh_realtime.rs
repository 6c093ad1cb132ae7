//! Who runs before ordinary processes? The thread that moves packets, while it has many and if it may, and nobody else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use netlab::{Daemon, Discovery, Host, Lab, Process, wait_until};

const LIMIT: Duration = Duration::from_secs(10);

/// The scheduling policies of a daemon's threads, as util-linux's chrt tells them: of the data thread, and of all others.
fn policies(daemon: &Daemon) -> (String, Vec<String>) {
    let pid = daemon.process.pid();
    let (mut data, mut others) = (String::new(), Vec::new());
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = thread.unwrap();
        let mut chrt = Command::new("chrt");
        let said = chrt.arg("-p").arg(thread.file_name()).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let policy = said.lines().find_map(|line| line.split_once("policy: "));
        let name = fs::read_to_string(thread.path().join("comm"));
        // A thread of the runtime may have ended meanwhile.
        let (Some((_, policy)), Ok(name)) = (policy, name) else {
            continue;
        };
        let policy = policy.to_owned();
        if name.trim() == "dataplane" {
            data = policy;
        } else {
            others.push(policy);
        }
    }
    (data, others)
}

/// An endless stream from one member to another.
fn stream(from: &Daemon, to: &Daemon) -> [Process; 2] {
    let server = to.host().spawn("iperf3", ["-s", "--forceflush"]).unwrap();
    server.wait_for_line("listening", LIMIT).unwrap();
    let target = ["-c", &to.virtual_ip, "-t", "60"];
    [from.host().spawn("iperf3", target).unwrap(), server]
}

/// meshd as a system runs it that keeps CAP_SYS_NICE to itself.
fn without_privilege(host: &Host) -> std::path::PathBuf {
    let script = host.dir().join("meshd-without-nice");
    let meshd = netlab::binary("meshd").unwrap();
    let text = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice {} \"$@\"\n",
        meshd.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn started(program: &Path, host: &Host, args: &[&str]) -> Daemon {
    let mut daemon = Daemon::launch_program(program, host, args).unwrap();
    daemon.wait_ready().unwrap();
    daemon
}

fn wait_for_policy(daemon: &Daemon, policy: &str) {
    let what = format!("the data thread of {} is {policy}", daemon.name);
    wait_until(&what, LIMIT, || Ok(policies(daemon).0.starts_with(policy))).unwrap();
}

#[test]
fn a_busy_data_thread_runs_before_processes_unless_told_or_not_allowed() {
    let lab = Lab::new("realtime").unwrap();
    let discovery = Discovery::start(&lab.internet().public_host("server").unwrap()).unwrap();
    let meshd = netlab::binary("meshd").unwrap();
    let host = |name| lab.internet().public_host(name).unwrap();

    let ann = started(&meshd, &host("ann"), &["--server", &discovery.url()]);
    let link = ann.join_link().unwrap();
    let bob = host("bob");
    let file = bob.dir().join("mesh.yaml");
    fs::write(&file, "mesh: {device: {realtime: false}}").unwrap();
    let args = ["--join", &link, "--config", file.to_str().unwrap()];
    let bob = started(&meshd, &bob, &args);
    let cid = host("cid");
    let cid = started(&without_privilege(&cid), &cid, &["--join", &link]);

    for other in [&bob, &cid] {
        ann.first_echo(other, LIMIT).unwrap();
        wait_for_policy(&ann, "SCHED_OTHER");
        let [client, server] = stream(&ann, other);
        wait_for_policy(&ann, "SCHED_RR");
        let (_, others) = policies(&ann);
        assert!(others.iter().all(|it| it == "SCHED_OTHER"), "{others:?}");
        for _ in 0..20 {
            assert_eq!(policies(other).0, "SCHED_OTHER");
            std::thread::sleep(Duration::from_millis(20));
        }
        for process in [client, server] {
            process.kill().unwrap();
        }
        wait_for_policy(&ann, "SCHED_OTHER");
    }
    let log = "packets wait their turn among processes";
    cid.process.wait_for_line(log, LIMIT).unwrap();
    assert!(![&ann, &bob].iter().any(|it| it.process.log().contains(log)));
}
