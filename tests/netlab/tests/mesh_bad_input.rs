//! What does `meshd up` say when the machine, the state directory or the command line will not do?
//!
//! Each refusal is exit code 1 and a text that names what, why and the fix; the fix is then tried where it can be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Duration,
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Output, binary};

const LIMIT: Duration = Duration::from_secs(20);

/// A LAN with one machine, whose state directory is fresh.
fn machine(name: &str) -> (Lab, Host) {
    let lab = Lab::new(name).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let host = home.host("pc").unwrap();
    (lab, host)
}

/// `meshd up ARGS` with the state directory that [`Daemon`] uses, to be run to its end.
fn up(host: &Host, args: &[&str]) -> Command {
    let mut command = host.command(binary("meshd").unwrap());
    command.args(["up", "--state-dir"]);
    command.arg(host.dir().join("state")).args(args);
    command
        .env_remove("MESHD_CONFIG")
        .env_remove("MESHD_STATE_DIR");
    command
}

/// Runs a command that must end with exit code 1 and an explanation that has all `parts`.
fn refused(host: &Host, command: Command, parts: &[&str]) -> String {
    let output = host.run_command(command, LIMIT).unwrap();
    explained(&output, parts);
    output.stderr
}

fn explained(output: &Output, parts: &[&str]) {
    let text = &output.stderr;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text.contains("error: ") && !text.contains("panicked"),
        "{text}"
    );
    assert!(!output.stdout.contains("ready"), "{output:?}");
    for part in ["why: ", "fix: "].iter().chain(parts) {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

fn sh(host: &Host, line: &str) -> String {
    host.sh(line).unwrap().stdout
}

/// Nothing that a start makes is left on the machine.
fn assert_no_interface(host: &Host) {
    let links = sh(host, "ip -o link");
    assert!(!links.contains("mesh0"), "{links}");
}

#[test]
fn without_root_it_says_sudo_and_touches_nothing() {
    let (_lab, host) = machine("notroot");
    // The user must be able to run the program wherever it was built.
    let public = tempfile::tempdir().unwrap();
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(public.path(), everybody.clone()).unwrap();
    let program = public.path().join("meshd");
    fs::copy(binary("meshd").unwrap(), &program).unwrap();
    fs::set_permissions(&program, everybody).unwrap();
    let mut command = host.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&program).args(["up", "--state-dir"]);
    command.arg(public.path().join("state"));
    let text = refused(&host, command, &["must run as root", "fix: sudo meshd up"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!public.path().join("state").exists());
}

#[test]
fn without_a_tun_device_it_names_the_command_that_brings_one() {
    let (_lab, host) = machine("notun");
    let mut command = host.command("unshare");
    command.args(["-m", "sh", "-c"]);
    command.arg("mount -t tmpfs none /dev/net && exec \"$0\" \"$@\"");
    command.arg(binary("meshd").unwrap());
    command.args(["up", "--state-dir"]);
    command.arg(host.dir().join("state"));
    refused(
        &host,
        command,
        &["no TUN device", "/dev/net/tun", "modprobe tun"],
    );
    // What failed was the machine's fault: once it is mended the same command does it all.
    let daemon = Daemon::up(&host, &[]).unwrap();
    daemon.join_link().unwrap();
}

#[test]
fn an_interface_name_that_is_taken_is_refused_and_another_one_works() {
    let (_lab, host) = machine("iftaken");
    for make in [
        "link add mesh0 type bridge",
        "tuntap add dev mesh0 mode tun",
    ] {
        sh(&host, &format!("ip {make}"));
        let before = sh(&host, "ip -o link show mesh0");
        refused(
            &host,
            up(&host, &[]),
            &["interface named mesh0", "--interface NAME"],
        );
        assert_eq!(sh(&host, "ip -o link show mesh0"), before, "it stays");
        sh(&host, "ip link delete mesh0");
    }
    sh(&host, "ip link add mesh0 type bridge");
    let daemon = Daemon::up(&host, &["--interface", "mesh7"]).unwrap();
    daemon.join_link().unwrap();
    assert!(sh(&host, "ip -o addr show mesh7").contains(&daemon.virtual_ip));
}

#[test]
fn a_virtual_range_over_a_local_route_is_refused_and_the_named_range_works() {
    let (_lab, host) = machine("overlap");
    sh(&host, "ip route add 10.100.3.0/24 dev eth0");
    let text = refused(
        &host,
        up(&host, &[]),
        &["10.100.0.0/16", "10.100.3.0/24", "eth0", "--cidr "],
    );
    assert_no_interface(&host);
    let (_, fix) = text.split_once("--cidr ").unwrap();
    let range: String = fix
        .chars()
        .take_while(|c| c.is_ascii_digit() || "./".contains(*c))
        .collect();
    let daemon = Daemon::up(&host, &["--cidr", &range]).unwrap();
    assert!(sh(&host, "ip route show dev mesh0").contains(&range));
    assert!(!daemon.virtual_ip.starts_with("10.100."));
    daemon.join_link().unwrap();
}

#[test]
fn a_port_that_is_in_use_is_named_with_what_needs_it() {
    let (_lab, host) = machine("ports");
    let namespace = host.namespace();
    let udp = |port: u16| UdpSocket::bind(("0.0.0.0", port)).unwrap();
    let tcp = |at: (&str, u16)| TcpListener::bind(at).unwrap();

    let taken = namespace.enter(|| udp(7081)).unwrap();
    let parts = ["udp port 7081", "mesh traffic", "--listen-port"];
    refused(&host, up(&host, &[]), &parts);
    assert_no_interface(&host);
    drop(taken);

    let taken = namespace.enter(|| tcp(("127.0.0.1", 7082))).unwrap();
    let parts = ["tcp port 7082", "the local API", "api.listen"];
    refused(&host, up(&host, &[]), &parts);
    drop(taken);

    let taken = namespace.enter(|| tcp(("0.0.0.0", 7080))).unwrap();
    let parts = ["tcp port 7080", "embedded discovery server", "--server"];
    refused(&host, up(&host, &[]), &parts);
    drop(taken);

    let taken = namespace.enter(|| udp(3478)).unwrap();
    let parts = ["udp port 3478", "embedded STUN server", "--server"];
    refused(&host, up(&host, &[]), &parts);
    drop(taken);

    // The shares' port is not worth the mesh: it runs, and says so in its health.
    let taken = namespace.enter(|| tcp(("0.0.0.0", 80))).unwrap();
    let daemon = Daemon::up(&host, &[]).unwrap();
    daemon.join_link().unwrap();
    let health = daemon.status().unwrap()["health"].to_string();
    assert!(
        health.contains("port-in-use") && health.contains("tcp port 80 "),
        "{health}"
    );
    drop(taken);
}

#[test]
fn keys_that_others_may_read_are_refused_until_chmod() {
    let (_lab, host) = machine("keymode");
    let daemon = Daemon::up(&host, &[]).unwrap();
    let address = daemon.virtual_ip.clone();
    daemon.ask(&["down"]).unwrap();
    for name in ["identity.json", "network.json", "api-token"] {
        let file = host.dir().join("state").join(name);
        let path = file.display().to_string();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let cure = format!("chmod 600 {path}");
        refused(&host, up(&host, &[]), &["others may read", "644", &cure]);
        sh(&host, &cure);
    }
    let daemon = Daemon::up(&host, &[]).unwrap();
    assert_eq!(daemon.virtual_ip, address);
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_lives_on() {
    let (_lab, host) = machine("locked");
    let first = Daemon::up(&host, &[]).unwrap();
    refused(
        &host,
        up(&host, &["--interface", "mesh1", "--listen-port", "0"]),
        &[
            "another meshd uses the state directory",
            "meshd down",
            "--state-dir",
        ],
    );
    assert_eq!(first.process.ended().unwrap(), None);
    assert_eq!(first.status().unwrap()["interface"], "mesh0");
}

#[test]
fn a_broken_or_foreign_link_is_refused_without_repeating_its_secret() {
    let (_lab, host) = machine("links");
    let creator = Daemon::up(&host, &[]).unwrap();
    let link = creator.join_link().unwrap();
    creator.ask(&["down"]).unwrap();
    fs::remove_dir_all(creator.state_dir()).unwrap();
    let (front, secret) = link.split_once('#').unwrap();
    let other = if secret.starts_with('z') { 'y' } else { 'z' };
    let mistyped = format!("{front}#{other}{}", &secret[1..]);
    for (broken, why) in [
        (
            &link[..link.len() - 1],
            "cut short or mistyped in the invite",
        ),
        (
            link.split_once('.')
                .map(|_| &link[..link.rfind('.').unwrap()])
                .unwrap(),
            "the invite behind '.' is missing",
        ),
        (&mistyped, "cut short or mistyped in the secret"),
        (front, "secret behind '#' is missing"),
        (
            &link[..link.find('?').unwrap()],
            "secret behind '#' is missing",
        ),
        ("http://example.com/index.html", "another program"),
        ("magnet:?xt=urn:btih:0123", "another program"),
        ("", "is not a URL"),
        ("my-network", "is not a URL"),
    ] {
        let parts = ["join link cannot be used", why, "meshd invite"];
        let text = refused(&host, up(&host, &["--join", broken]), &parts);
        assert!(!text.contains(&secret[..8]), "{text}");
    }
    assert!(!host.dir().join("state").exists(), "nothing was begun");
}

#[test]
fn a_link_of_another_network_does_not_move_a_member() {
    let lab = Lab::new("othernet").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let [a, b] = ["a", "b"].map(|name| home.host(name).unwrap());
    let url = discovery.url();
    let one = Daemon::up(&a, &["--server", &url, "--network", "one"]).unwrap();
    let two = Daemon::up(&b, &["--server", &url, "--network", "two"]).unwrap();
    let link = two.join_link().unwrap();
    one.ask(&["down"]).unwrap();
    refused(
        &a,
        up(&a, &["--join", &link]),
        &["a member of one, not of two", "--state-dir"],
    );
    refused(
        &a,
        up(&a, &["--network", "three"]),
        &["a member of one, not of three"],
    );
    // Creating a network that somebody else has is no way in either.
    let fresh = home.host("c").unwrap();
    refused(
        &fresh,
        up(&fresh, &["--server", &url, "--network", "two"]),
        &[
            "already has a network named two",
            "--join LINK",
            "--network NAME",
        ],
    );
    let again = Daemon::up(&a, &[]).unwrap();
    assert_eq!(again.status().unwrap()["network"], "one");
}

#[test]
fn another_server_than_the_embedded_one_is_refused_for_a_network_that_lives_here() {
    let (_lab, host) = machine("moved");
    let daemon = Daemon::up(&host, &[]).unwrap();
    daemon.ask(&["down"]).unwrap();
    refused(
        &host,
        up(&host, &["--server", "http://198.51.100.9:7080"]),
        &[
            "my-network",
            "198.51.100.9",
            "inside this daemon",
            "--state-dir",
        ],
    );
    Daemon::up(&host, &[]).unwrap();
}
