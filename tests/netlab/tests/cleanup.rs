//! Does a lab vanish, however its process ends? The witness is one end of a veth pair per
//! machine, kept in a namespace outside the lab: it goes when the machine's namespace goes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netlab::{Host, Lab, LinkShape, Namespace, Nat, Process};

/// The kernel frees namespaces in its own time, in batches.
const FREED: Duration = Duration::from_secs(30);
const MACHINES: usize = 6;
/// Set for the process that a test starts from its own executable.
const ROLE: &str = "NETLAB_TEST_WITNESS";

#[test]
fn a_dropped_lab_leaves_no_namespace_program_or_file() {
    let witness = Namespace::new().unwrap();
    let (lab, machines, process) = lab_with_witness(&witness.path());
    let (dir, pid) = (lab.dir().to_path_buf(), process.pid());
    assert!(dir.is_dir());
    assert_eq!(witnessed(&witness), MACHINES);
    drop(machines);
    drop(lab);
    assert_gone(&witness, &[pid]);
    assert!(!dir.exists());
}

#[test]
fn a_panic_leaves_no_namespace_or_program() {
    let witness = Namespace::new().unwrap();
    let mut pid = 0;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let (_lab, _machines, process) = lab_with_witness(&witness.path());
        pid = process.pid();
        panic!("a test fails");
    }));
    assert!(panic.is_err() && pid > 0);
    assert_gone(&witness, &[pid]);
}

#[test]
fn a_killed_process_leaves_no_namespace_or_program() {
    if let Some(path) = std::env::var_os(ROLE) {
        let (_lab, _machines, process) = lab_with_witness(Path::new(&path));
        announce(&format!("pids {} {}", process.pid(), std::process::id()));
        std::thread::sleep(FREED);
        panic!("the other process should have killed this one");
    }
    let witness = Namespace::new().unwrap();
    let test = "a_killed_process_leaves_no_namespace_or_program";
    // The files of a killed lab stay until the next lab; these go with this directory.
    let files = tempfile::tempdir().unwrap();
    let mut again = again(test, &witness.path());
    again.env("TMPDIR", files.path()).stdout(Stdio::piped());
    let mut child = again.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("pids "))
        .unwrap();
    let pids: Vec<u32> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(pids.len(), 2, "{line}");
    assert_eq!(pids[1], child.id());
    assert_eq!(witnessed(&witness), MACHINES);
    assert!(pids.iter().all(|pid| runs(*pid)), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(&witness, &pids);
}

#[test]
fn a_lab_without_the_right_to_make_namespaces_fails_and_says_how_to_get_it() {
    if std::env::var_os(ROLE).is_some() {
        let error = format!("{:#}", Lab::new("forbidden").unwrap_err());
        announce(&error);
        return;
    }
    let test = "a_lab_without_the_right_to_make_namespaces_fails_and_says_how_to_get_it";
    let again = again(test, Path::new("none"));
    let output = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
        .arg(again.get_program())
        .args(again.get_args())
        .env(ROLE, "none")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(
        printed.contains("cannot make a network namespace"),
        "{printed}"
    );
    assert!(printed.contains("Fix: run the tests as root"), "{printed}");
}

#[test]
fn a_failed_test_shows_the_end_of_its_programs_logs() {
    if std::env::var_os(ROLE).is_some() {
        let lab = Lab::new("failing").unwrap();
        let host = lab.internet().public_host("host").unwrap();
        let process = host
            .spawn("sh", ["-c", "echo famous last words; exit 7"])
            .unwrap();
        process.wait(FREED).unwrap();
        panic!("a test fails");
    }
    let test = "a_failed_test_shows_the_end_of_its_programs_logs";
    let output = again(test, Path::new("none")).output().unwrap();
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("---- host: sh (pid "), "{printed}");
    assert!(printed.contains("exit status: 7"), "{printed}");
    assert!(printed.contains("famous last words"), "{printed}");
}

/// This executable once more, for one test in its other role.
fn again(test: &str, witness: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, witness);
    command
}

#[allow(clippy::print_stdout, reason = "the other process reads it")]
fn announce(line: &str) {
    println!("{line}");
}

/// A lab with every sort of machine and a background program, whose machines each have one end
/// of a veth pair; the other ends are in the namespace `witness`.
fn lab_with_witness(witness: &Path) -> (Lab, Vec<Host>, Process) {
    let lab = Lab::new("cleanup").unwrap();
    let internet = lab.internet();
    let shaped = internet
        .public_host_shaped("shaped", LinkShape::default())
        .unwrap();
    let plain = internet.public_host("plain").unwrap();
    let home = internet.home("home", Nat::Cgnat).unwrap();
    let inside = home.host("a").unwrap();
    let machines = vec![
        internet.router().clone(),
        shaped,
        plain,
        home.router().clone(),
        home.carrier().unwrap().clone(),
        inside.clone(),
    ];
    for (number, machine) in machines.iter().enumerate() {
        let (near, far) = (format!("w{number}"), format!("witness{number}"));
        let peer = ["peer", "name", &far, "netns", witness.to_str().unwrap()];
        let args = ["link", "add", &near, "type", "veth"]
            .into_iter()
            .chain(peer);
        machine.run("ip", args).unwrap();
    }
    let process = inside.spawn("sleep", ["600"]).unwrap();
    (lab, machines, process)
}

/// How many of the lab's machines still exist.
fn witnessed(witness: &Namespace) -> usize {
    let devices = witness
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap();
    devices.unwrap().matches("witness").count()
}

/// A zombie that nobody reaps is dead as well: it holds neither memory nor namespaces.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn assert_gone(witness: &Namespace, pids: &[u32]) {
    let deadline = Instant::now() + FREED;
    while witnessed(witness) > 0 || pids.iter().any(|pid| runs(*pid)) {
        assert!(
            Instant::now() < deadline,
            "{} machines are left; of the programs {pids:?} some run: {:?}",
            witnessed(witness),
            pids.iter().map(|pid| runs(*pid)).collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
