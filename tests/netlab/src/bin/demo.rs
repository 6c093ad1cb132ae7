//! A mesh on one machine, for a first look: a public server, two homes behind NAT routers, `meshd` in each, a ping, a
//! shared file, the status table. Everything is made of network namespaces and gone when this program ends.

use std::{
    fs,
    io::Write,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netlab::{Daemon, Discovery, Lab, Nat};

fn main() -> Result<()> {
    let lab = Lab::new("demo")?;
    say("A little internet: a public server, and two homes behind port-restricted NAT routers.")?;
    let server = lab.internet().public_host("server")?;
    let alice_pc = lab
        .internet()
        .home("alice", Nat::PortRestricted)?
        .host("pc")?;
    let bob_pc = lab
        .internet()
        .home("bob", Nat::PortRestricted)?
        .host("pc")?;
    say(&format!(
        "  server {}   alice's pc {}   bob's pc {}\n",
        server.address(),
        alice_pc.address(),
        bob_pc.address()
    ))?;

    say("server$ discovery-server serve")?;
    let discovery = Discovery::start(&server)?;
    say(&format!("alice$  meshd up --server {}", discovery.url()))?;
    let alice = Daemon::up(
        &alice_pc,
        &["--server", &discovery.url(), "--name", "alice"],
    )?;
    let link = alice.join_link()?;
    say(&format!("        join {link}"))?;
    say("bob$    meshd up --join '<that link>'")?;
    let start = Instant::now();
    let bob = Daemon::up(&bob_pc, &["--join", &link, "--name", "bob"])?;
    let took = first_echo(&bob, &alice, start)?;
    say(&format!(
        "        first echo {} ms after bob's `meshd up`\n",
        took.as_millis()
    ))?;

    say(&format!("bob$    ping -c 3 {}", alice.virtual_ip))?;
    say(&bob_pc
        .run("ping", ["-c", "3", "-i", "0.2", &alice.virtual_ip])?
        .stdout)?;

    share(&alice, &bob)?;

    say("bob$    meshd status")?;
    // The table is published once a second.
    std::thread::sleep(Duration::from_millis(1100));
    say(&bob.ask(&["status"])?)?;
    drop(lab);
    say("Everything is gone again. On real machines: the same commands, without the lab.")
}

fn share(alice: &Daemon, bob: &Daemon) -> Result<()> {
    let documents = alice.host().dir().join("documents");
    fs::create_dir(&documents).context("make a folder to share")?;
    fs::write(documents.join("hello.txt"), "Hello over the mesh.\n")
        .context("write a file to share")?;
    let path = documents
        .to_str()
        .context("the lab's directory has an odd name")?;
    say(&format!("alice$  meshd share add docs {path} --to all"))?;
    alice.ask(&["share", "add", "docs", path, "--to", "all"])?;
    let url = format!("http://{}/docs/hello.txt", alice.virtual_ip);
    say(&format!("bob$    curl {url}"))?;
    say(&bob.host().run("curl", ["-sSf", &url])?.stdout)?;
    Ok(())
}

fn first_echo(from: &Daemon, to: &Daemon, start: Instant) -> Result<Duration> {
    let target: Ipv4Addr = to.virtual_ip.parse()?;
    loop {
        if from
            .host()
            .ping_each(Duration::from_millis(100), target, 1)?
            .received()
            > 0
        {
            return Ok(start.elapsed());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "no echo; bob's daemon says:\n{}",
            from.process.log()
        );
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
