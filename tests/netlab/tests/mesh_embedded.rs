//! A LAN and nothing else: does `meshd up` alone bring everything that two machines need?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use netlab::{Daemon, Host, Lab, Nat};

/// A home's LAN with two machines.
fn lan(name: &str) -> (Lab, [Host; 2]) {
    let lab = Lab::new(name).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let hosts = ["desktop", "laptop"].map(|name| home.host(name).unwrap());
    (lab, hosts)
}

fn sh(host: &Host, line: &str) -> String {
    host.sh(line).unwrap().stdout
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

fn echo(from: &Daemon, to: &Daemon, limit: Duration) {
    from.first_echo(to, limit).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn one_command_makes_keys_server_network_and_a_link_and_says_who_reaches_it() {
    let (_lab, [desktop, _]) = lan("fresh");
    let alice = Daemon::up(&desktop, &[]).unwrap();
    assert_eq!(alice.name, desktop.name());
    assert_eq!(alice.virtual_ip, "10.100.0.1");

    assert_eq!(mode(alice.state_dir()), 0o700);
    for secret in ["identity.json", "network.json", "api-token"] {
        assert_eq!(mode(&alice.state_dir().join(secret)), 0o600, "{secret}");
    }

    let log = alice.process.log();
    let address = desktop.address();
    let link = alice.join_link().unwrap();
    let begin = format!("http://{address}:7080/join/my-network?key=");
    assert!(link.starts_with(&begin) && link.contains('#'), "{link}");
    for part in [
        "network my-network created",
        "meshd up --join 'LINK'",
        &format!("{address}:7080"),
        "private address",
        "same local network reach it, machines elsewhere do not",
        "`discovery-server serve` on any public host",
    ] {
        assert!(log.contains(part), "{part:?} is not in\n{log}");
    }

    let health = sh(
        &desktop,
        &format!("curl -sS -f http://{address}:7080/healthz"),
    );
    assert!(health.contains("ok"), "{health}");
    wait_until(
        "it is its own server's client",
        Duration::from_secs(3),
        || alice.is_connected().unwrap(),
    );
    let invited = alice.ask(&["invite"]).unwrap();
    // Another invite, to the same network and with the same secret.
    let (before_invite, _) = link.rsplit_once('.').unwrap();
    assert!(invited.starts_with(before_invite), "{invited}");
}

#[test]
fn the_link_opened_in_a_browser_explains_itself_and_learns_no_secret() {
    let (_lab, [desktop, laptop]) = lan("page");
    let alice = Daemon::up(&desktop, &[]).unwrap();
    let link = alice.join_link().unwrap();
    let page = sh(&laptop, &format!("curl -sS -f -i '{link}'"));
    for part in [
        "200 OK",
        "text/html",
        "content-security-policy: default-src 'none'",
        "my-network",
        "meshd up --join",
    ] {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
    let (_, secret) = link.split_once('#').unwrap();
    assert!(!page.contains(secret), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn a_second_machine_of_the_lan_joins_by_the_link_pings_and_fetches_a_file() {
    let (_lab, [desktop, laptop]) = lan("second");
    let alice = Daemon::up(&desktop, &["--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&laptop, &["--join", &link, "--name", "bob"]).unwrap();
    assert_ne!(bob.virtual_ip, alice.virtual_ip);
    let log = bob.process.log();
    let creators = ["created", "inside this daemon", "join http"];
    assert!(!creators.iter().any(|part| log.contains(part)), "{log}");
    echo(&bob, &alice, Duration::from_secs(5));
    echo(&alice, &bob, Duration::from_secs(1));
    wait_until("the status shows the path", Duration::from_secs(3), || {
        bob.peer("alice").unwrap()["path"] == "direct"
    });

    let docs = desktop.dir().join("documents");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("hello.txt"), "hello from alice").unwrap();
    let path = docs.to_str().unwrap();
    alice
        .ask(&["share", "add", "docs", path, "--to", "bob"])
        .unwrap();
    let url = format!("http://{}/docs/hello.txt", alice.virtual_ip);
    assert_eq!(
        sh(&laptop, &format!("curl -sS -f {url}")),
        "hello from alice"
    );
}

#[test]
fn after_a_kill_the_creator_comes_back_the_same_and_its_member_finds_it_alone() {
    let (_lab, [desktop, laptop]) = lan("kill");
    let mut alice = Daemon::up(&desktop, &["--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&laptop, &["--join", &link, "--name", "bob"]).unwrap();
    echo(&bob, &alice, Duration::from_secs(5));
    let node_id = alice.status().unwrap()["node_id"].clone();

    alice.kill().unwrap();
    wait_until("the member notices", Duration::from_secs(3), || {
        !bob.is_connected().unwrap()
    });
    let health = bob.status().unwrap()["health"].to_string();
    assert!(health.contains("server-unreachable"), "{health}");
    let before = alice.virtual_ip.clone();
    alice = Daemon::up(&desktop, &[]).unwrap();
    assert_eq!(alice.name, "alice");
    assert_eq!(alice.virtual_ip, before);
    let status = alice.status().unwrap();
    assert_eq!(status["node_id"], node_id);
    assert_eq!(status["network"], "my-network");
    assert!(!alice.process.log().contains("created"), "nothing is new");
    let invited = alice.ask(&["invite"]).unwrap();
    // Another invite, to the same network and with the same secret.
    let (before_invite, _) = link.rsplit_once('.').unwrap();
    assert!(invited.starts_with(before_invite), "{invited}");

    wait_until("the member is back", Duration::from_secs(5), || {
        bob.is_connected().unwrap()
    });
    assert_eq!(bob.status().unwrap()["health"].as_array().unwrap().len(), 0);
    assert_eq!(bob.process.ended().unwrap(), None);
    echo(&bob, &alice, Duration::from_secs(3));
    echo(&alice, &bob, Duration::from_secs(1));
}

#[test]
fn a_lan_without_a_way_out_is_a_network_too() {
    let (_lab, hosts) = lan("noroute");
    for host in &hosts {
        sh(host, "ip route del default");
    }
    let [desktop, laptop] = hosts;
    let alice = Daemon::up(&desktop, &["--name", "alice"]).unwrap();
    let log = alice.process.log();
    assert!(!log.contains("has no network"), "{log}");
    let link = alice.join_link().unwrap();
    let begin = format!("http://{}:7080/", desktop.address());
    assert!(link.starts_with(&begin), "{link}");
    let bob = Daemon::up(&laptop, &["--join", &link, "--name", "bob"]).unwrap();
    echo(&bob, &alice, Duration::from_secs(5));
}

#[test]
fn on_a_public_host_there_is_no_talk_of_private_addresses() {
    let lab = Lab::new("public").unwrap();
    let host = lab.internet().public_host("rented").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let pc = home.host("pc").unwrap();
    let alice = Daemon::up(&host, &["--name", "alice"]).unwrap();
    let log = alice.process.log();
    assert!(!log.contains("private"), "{log}");
    assert!(!log.contains("discovery-server serve"), "{log}");
    assert!(
        log.contains(&format!(
            "at {}:7080. Any machine reaches it",
            host.address()
        )),
        "{log}"
    );
    assert!(log.contains("3478/udp"), "{log}");
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&pc, &["--join", &link, "--name", "bob"]).unwrap();
    echo(&bob, &alice, Duration::from_secs(5));
}
