//! How is a pair of user-space WireGuard daemons started?
//!
//! Each runs in the foreground in a mount namespace of its own, so that its control socket, in
//! /run/wireguard, meets nobody else's and goes with it.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use netlab::{Host, Process};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::contestant::WireGuard;
use crate::echo::first_echo;
use crate::scene::{self, Scene};
use crate::tunnel::Tunnel;

const DEVICE: &str = "bench0";
const PORT: u16 = 51820;
/// 1500 less the outer headers over IPv6 (40, 8 and 32 bytes): what wg-quick would set.
const MTU: u32 = 1420;
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];
const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts both ends, configures them and waits for the first echo.
pub(crate) fn start(which: WireGuard, program: &Path, scene: &Scene) -> Result<Tunnel> {
    let hosts = [&scene.a, &scene.b];
    let secrets = [secret()?, secret()?];
    let begun = Instant::now();
    let daemons = hosts.map(|host| spawn(which, program, host));
    let [a, b] = daemons;
    let daemons = vec![a?, b?];
    for (here, there) in [(0, 1), (1, 0)] {
        let request = configuration(
            &secrets[here],
            &secrets[there],
            hosts[there].address(),
            ADDRESSES[there],
        );
        configure(&daemons[here], &request)?;
        hosts[here].namespace().ip(&format!(
            "addr add {}/24 dev {DEVICE}\nlink set {DEVICE} mtu {MTU} up",
            ADDRESSES[here]
        ))?;
    }
    let took = first_echo(&scene.a, ADDRESSES[1], begun, START_LIMIT).with_context(|| {
        let logs: Vec<String> = daemons.iter().map(|it| it.log_tail(20)).collect();
        format!("the daemons said:\n{}", logs.join("\n"))
    })?;
    Ok(Tunnel {
        target: ADDRESSES[1],
        mtu: scene::mtu(&scene.a, DEVICE)?,
        daemons,
        relay: None,
        first_echo: Some(took),
    })
}

fn spawn(which: WireGuard, program: &Path, host: &Host) -> Result<Process> {
    let flags: &[&str] = match which {
        WireGuard::Gotatun | WireGuard::Boringtun => &[
            "--foreground",
            "--disable-drop-privileges",
            "--verbosity=error",
        ],
        WireGuard::Go => &["--foreground"],
    };
    let mut command = host.command("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs bench /run && mkdir /run/wireguard && exec \"$@\"")
        .arg("sh")
        .arg(program)
        .args(flags)
        .arg(DEVICE)
        .env("LOG_LEVEL", "error");
    host.spawn_command(command)
}

/// A `set` request of the cross-platform user-space interface (wireguard.com/xplatform).
fn configuration(
    own: &StaticSecret,
    peer: &StaticSecret,
    endpoint: Ipv4Addr,
    allowed: Ipv4Addr,
) -> String {
    format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint={endpoint}:{PORT}\n\
         replace_allowed_ips=true\nallowed_ip={allowed}/32\n\n",
        HEXLOWER.encode(own.as_bytes()),
        HEXLOWER.encode(PublicKey::from(peer).as_bytes()),
    )
}

/// Sends a request as soon as the daemon listens.
fn configure(daemon: &Process, request: &str) -> Result<()> {
    let root = PathBuf::from(format!("/proc/{}/root/run/wireguard", daemon.pid()));
    let path = root.join(format!("{DEVICE}.sock"));
    let begun = Instant::now();
    let mut socket = loop {
        match UnixStream::connect(&path) {
            Ok(socket) => break socket,
            Err(error) => {
                scene::check_alive(daemon)?;
                ensure!(
                    begun.elapsed() < START_LIMIT,
                    "cannot connect to {}: {error}",
                    path.display()
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    socket.set_read_timeout(Some(START_LIMIT))?;
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with("\n\n") && socket.read(&mut byte)? == 1 {
        answer.push(char::from(byte[0]));
    }
    ensure!(
        answer.lines().any(|line| line == "errno=0"),
        "{} refused its configuration: {answer:?}",
        daemon.label()
    );
    Ok(())
}

fn secret() -> Result<StaticSecret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("no random numbers for a key")?;
    Ok(StaticSecret::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_the_own_secret_and_the_public_key_of_the_peer() {
        let (own, peer) = (StaticSecret::from([1; 32]), StaticSecret::from([2; 32]));
        let endpoint = Ipv4Addr::new(198, 51, 100, 3);
        let request = configuration(&own, &peer, endpoint, ADDRESSES[1]);
        let public = HEXLOWER.encode(PublicKey::from(&peer).as_bytes());
        for line in [
            "set=1",
            &format!("private_key={}", "01".repeat(32)),
            &format!("public_key={public}"),
            "endpoint=198.51.100.3:51820",
            "allowed_ip=10.99.0.2/32",
        ] {
            assert!(request.lines().any(|it| it == line), "{line}");
        }
        assert!(request.ends_with("/32\n\n"));
    }
}
