//! Is the configuration file obeyed as a whole, or refused as a whole, and are its secrets kept?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Output, binary};
use serde_json::Value;

const SEED: &str = include_str!("../../../meshd/examples/seed.yaml");
const LIMIT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(5);

/// A public host with a discovery server, and a home with two machines.
fn lab_with_server(name: &str) -> (Lab, Discovery, [Host; 2]) {
    let lab = Lab::new(name).unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let hosts = ["a", "b"].map(|name| home.host(name).unwrap());
    (lab, discovery, hosts)
}

fn machine(name: &str) -> (Lab, Host) {
    let lab = Lab::new(name).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let host = home.host("pc").unwrap();
    (lab, host)
}

fn write(host: &Host, text: &str) -> String {
    let file = host.dir().join("mesh.yaml");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// `meshd ARGS` with the seed's two variables in its environment.
fn meshd(host: &Host, args: &[&str]) -> Command {
    let mut command = host.command(binary("meshd").unwrap());
    command.args(args);
    command
        .env_remove("MESHD_CONFIG")
        .env_remove("MESHD_STATE_DIR")
        .env("TURN_USER", "ann")
        .env("TURN_PASS", "correct horse");
    command
}

/// `meshd up` with a configuration of that text, which must be refused before anything is made.
fn refused(host: &Host, text: &str, parts: &[&str]) -> Output {
    let file = write(host, text);
    let state = host.dir().join("state");
    let args = ["up", "--config", &file, "--state-dir"];
    let mut command = meshd(host, &args);
    command.arg(&state);
    let output = host.run_command(command, LIMIT).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for part in ["error: ", "mesh.yaml", "fix: "].iter().chain(parts) {
        assert!(
            output.stderr.contains(part),
            "{part:?} is not in\n{}",
            output.stderr
        );
    }
    assert!(!state.exists(), "nothing was touched");
    output
}

/// The seed as it is after somebody did what the refusal asks for.
fn without_lines_named_in(explanation: &str) -> String {
    let mut refused = Vec::new();
    for line in explanation.lines() {
        let line = line.trim_start().trim_start_matches("why: ");
        let Some((lines, _)) = line.split_once(": ") else {
            continue;
        };
        let Some((_, range)) = lines.split_once(' ').filter(|_| lines.starts_with("line")) else {
            continue;
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        refused.extend(first.parse::<usize>().unwrap()..=last.parse().unwrap());
    }
    assert!(!refused.is_empty(), "{explanation}");
    let kept = SEED
        .lines()
        .enumerate()
        .filter(|(index, _)| !refused.contains(&(index + 1)));
    kept.flat_map(|(_, line)| [line, "\n"]).collect()
}

#[test]
fn the_seed_is_refused_by_line_and_runs_without_the_named_lines() {
    let (_lab, discovery, [a, b]) = lab_with_server("seed");
    let output = refused(
        &a,
        SEED,
        &["line 7: mesh.device.type", "remove the named lines"],
    );
    assert!(
        !output.stderr.contains("correct horse"),
        "{}",
        output.stderr
    );

    let rest = without_lines_named_in(&output.stderr);
    let server = discovery.url();
    let rest = rest.replace("bifrost.example.com:7080", &server);
    let rest = rest.replace("${TURN_USER}", "ann");
    let rest = rest.replace("${TURN_PASS}", "correct horse");
    assert!(rest.contains(&server), "{rest}");
    let file = write(&a, &rest);
    let alice = Daemon::up(&a, &["--config", &file, "--name", "alice"]).unwrap();
    let status = alice.status().unwrap();
    assert_eq!(status["network"], "my-network");
    assert_eq!(status["interface"], "mesh0");
    let link = a.sh("ip -o link show mesh0").unwrap().stdout;
    assert!(link.contains("mtu 1400"), "{link}");
    let joined = ["--config", &write(&b, &rest), "--name", "bob", "--join"].map(str::to_owned);
    let mut args: Vec<&str> = joined.iter().map(String::as_str).collect();
    let link = alice.join_link().unwrap();
    args.push(&link);
    let bob = Daemon::up(&b, &args).unwrap();
    bob.first_echo(&alice, SOON).unwrap();
}

#[test]
fn the_printed_example_is_a_file_that_works() {
    let (_lab, discovery, [a, b]) = lab_with_server("example");
    let output = a
        .run_command(meshd(&a, &["config", "example"]), LIMIT)
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = write(&a, &output.stdout);
    let check = ["config", "check", &file];
    let checked = a.run_command(meshd(&a, &check), LIMIT).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");

    let placeholder = "# server: discovery.example.com:7080";
    assert!(output.stdout.contains(placeholder));
    let address = discovery.url().replace("http://", "");
    let text = output
        .stdout
        .replace(placeholder, &format!("server: {address}"));
    let file = write(&a, &text);
    let alice = Daemon::up(&a, &["--config", &file]).unwrap();
    assert_eq!(
        alice.status().unwrap()["server"]["url"],
        format!("http://{address}/")
    );
    let bob = Daemon::up(&b, &["--join", &alice.join_link().unwrap()]).unwrap();
    bob.first_echo(&alice, SOON).unwrap();
}

#[test]
fn a_share_of_the_file_waits_for_the_member_it_names() {
    let (_lab, discovery, [a, b]) = lab_with_server("fileshare");
    let docs = a.dir().join("documents");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("hello.txt"), "hello").unwrap();
    let share = |name: &str, path: &Path, to: &str| {
        format!(
            "  - name: {name}\n    path: {}\n    to: [{to}]\n",
            path.display()
        )
    };
    let head = format!(
        "mesh:\n  discovery:\n    server: {}\nshares:\n",
        discovery.url()
    );
    let text = format!(
        "{head}{}{}{}",
        share("for-bob", &docs, "bob"),
        share("for-carol", &docs, "carol"),
        share("own-keys", &a.dir().join("state"), "all"),
    );
    let file = write(&a, &text);
    let alice = Daemon::up(&a, &["--config", &file, "--name", "alice"]).unwrap();
    let health = alice.status().unwrap()["health"].clone();
    assert_eq!(health[0]["code"], "share-path-private", "{health:#}");

    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--name", "bob", "--join", &link]).unwrap();
    bob.first_echo(&alice, SOON).unwrap();
    let address = alice.virtual_ip.clone();
    let get = |share: &str| {
        let url = format!("http://{address}/{share}/hello.txt");
        b.try_sh(&format!("curl -sS -f {url}")).unwrap().stdout
    };
    netlab::wait_until("the share is granted", SOON, || {
        Ok(get("for-bob") == "hello")
    })
    .unwrap();
    assert_eq!(get("for-carol"), "");
    assert_eq!(get("own-keys"), "");
    // A later start with the same file adds nothing twice.
    alice.kill().unwrap();
    let alice = Daemon::up(&a, &["--config", &file]).unwrap();
    let shares = alice.ask(&["share", "list", "--json"]).unwrap();
    let shares: Value = serde_json::from_str(&shares).unwrap();
    assert_eq!(shares.as_array().unwrap().len(), 2, "{shares:#}");
    // And a start with a file that does not say it any more takes it back.
    alice.kill().unwrap();
    let file = write(&a, &format!("{head}{}", share("for-bob", &docs, "carol")));
    let alice = Daemon::up(&a, &["--config", &file]).unwrap();
    bob.first_echo(&alice, SOON).unwrap();
    let shares = alice.ask(&["share", "list", "--json"]).unwrap();
    let shares: Value = serde_json::from_str(&shares).unwrap();
    assert_eq!(shares.as_array().unwrap().len(), 1, "{shares:#}");
    assert_eq!(shares[0]["to"].as_array().unwrap().len(), 0, "{shares:#}");
    assert_eq!(get("for-bob"), "");
}

#[test]
fn what_is_wrong_in_the_file_is_named_by_line() {
    let (_lab, host) = machine("wrong");
    for (text, parts) in [
        (
            "mesh:\n  network_id: home\n  conection:\n    direct_connect: true\n",
            &["line 3", "`conection`", "did you mean `connection`?"][..],
        ),
        ("mesh:\n  mtu: 1400\n", &["line 2", "`mtu`", "mesh.device"]),
        (
            "mesh:\n  network_id: ${MESH_NO_SUCH}\n",
            &["line 2", "MESH_NO_SUCH is not set", "export MESH_NO_SUCH="],
        ),
        (
            "mesh:\n  listen_port: 70000\n  device:\n    mtu: 100\n",
            &[
                "2 errors",
                "line 2",
                "line 4",
                "mesh.listen_port",
                "mesh.device.mtu",
            ],
        ),
        ("mesh: [\n", &["line "]),
        (
            "mesh:\n  enabled: false\n",
            &["disables the mesh", "mesh.enabled: true"],
        ),
    ] {
        refused(&host, text, parts);
    }
    let missing = host.dir().join("none.yaml");
    let missing = missing.to_str().unwrap();
    let command = meshd(&host, &["up", "--config", missing]);
    let output = host.run_command(command, LIMIT).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("cannot read the configuration"),
        "{output:?}"
    );
}

#[test]
fn the_log_can_be_one_json_object_per_line() {
    let (_lab, host) = machine("jsonlog");
    let file = write(&host, "log:\n  format: json\n  level: debug\n");
    let program = binary("meshd").unwrap();
    let line = format!(
        "exec {} up --state-dir state --config {file} 2>errors",
        program.display()
    );
    let daemon = host.spawn("sh", ["-c", &line]).unwrap();
    daemon.wait_for_line("ready ", LIMIT).unwrap();
    let errors = host.dir().join("errors");
    let connected = || {
        fs::read_to_string(&errors)
            .unwrap()
            .contains("connected to")
    };
    netlab::wait_until("it says that it is connected", SOON, || Ok(connected())).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    daemon.wait(SOON).unwrap();
    let text = fs::read_to_string(&errors).unwrap();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(
            entry["level"].is_string() && entry["timestamp"].is_string(),
            "{line}"
        );
    }
}

/// Every secret of the network and of two state directories, by what it is.
fn secrets(link: &str, state_dirs: &[PathBuf]) -> Vec<(String, String)> {
    let (_, psk) = link.split_once('#').unwrap();
    let mut secrets = vec![("the link's secret".to_owned(), psk.to_owned())];
    for dir in state_dirs {
        let token = fs::read_to_string(dir.join("api-token")).unwrap();
        secrets.push((
            format!("{} api-token", dir.display()),
            token.trim().to_owned(),
        ));
        for (file, keys) in [
            ("identity.json", &["identity_key", "wireguard_key"][..]),
            ("network.json", &["psk", "creator_key"]),
        ] {
            let text = fs::read_to_string(dir.join(file)).unwrap();
            let json: Value = serde_json::from_str(&text).unwrap();
            for key in keys {
                if let Some(secret) = json[key].as_str() {
                    secrets.push((format!("{} {key}", dir.display()), secret.to_owned()));
                }
            }
        }
    }
    assert!(secrets.iter().all(|(_, secret)| secret.len() > 20));
    secrets
}

/// What a member shows the server, as it arrives there: an impostor is told it by whoever follows `link`.
fn admission_token(lab: &Lab, server: &str, link: &str) -> String {
    let [impostor, visitor] =
        ["impostor", "visitor"].map(|name| lab.internet().public_host(name).unwrap());
    let bind = || TcpListener::bind(("0.0.0.0", 7080)).unwrap();
    let listener = impostor.namespace().enter(bind).unwrap();
    let link = link.replace(server, &format!("http://{}:7080", impostor.address()));
    let daemon = Daemon::launch(&visitor, &["--join", &link]).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).unwrap();
    daemon.kill().unwrap();
    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
    let (_, token) = request.split_once("bearer ").unwrap();
    token.lines().next().unwrap().to_owned()
}

#[test]
fn no_secret_stands_in_a_log_a_command_line_or_the_status() {
    let (lab, discovery, [a, b]) = lab_with_server("secrets");
    let start = |host: &Host, args: &[&str]| {
        let mut command = meshd(host, &["up", "--state-dir", "state"]);
        command.args(args).env("MESHD_LOG", "trace");
        let process = host.spawn_command(command).unwrap();
        process.wait_for_line("ready home-a 10.", LIMIT).unwrap();
        process
    };
    let creator = start(&a, &["--server", &discovery.url()]);
    let line = creator.wait_for_line("join http", SOON).unwrap();
    let link = line.strip_prefix("join ").unwrap().to_owned();
    // From standard input, where no other user sees it.
    fs::write(b.dir().join("link"), &link).unwrap();
    let program = binary("meshd").unwrap();
    let join = format!(
        "MESHD_LOG=trace exec {} up --state-dir state --join - < link",
        program.display()
    );
    let member = b.spawn("sh", ["-c", &join]).unwrap();
    let ready = member.wait_for_line("ready home-b 10.", LIMIT).unwrap();
    let address = ready.split_whitespace().nth(2).unwrap();
    let target = address.parse().unwrap();
    let echo = || Ok(a.ping(target, 1)?.received() > 0);
    netlab::wait_until("an echo", SOON, echo).unwrap();

    let ask = |host: &Host, args: &[&str]| {
        let mut command = meshd(host, &["--state-dir", "state"]);
        command.args(args);
        host.run_command(command, LIMIT).unwrap().stdout
    };
    let cmdline = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let mut places = vec![
        ("the member's log", member.log()),
        ("the server's log", discovery.process.log()),
        ("the creator's status", ask(&a, &["status", "--json"])),
        ("the member's status", ask(&b, &["status", "--json"])),
        ("the creator's command line", cmdline(creator.pid())),
        ("the member's command line", cmdline(member.pid())),
    ];
    // The creator shows its link once, to whoever started it.
    let log = creator.log();
    assert!(log.contains("DEBUG"), "the log is verbose");
    places.push(("the creator's log", log.replacen(&link, "", 1)));
    let dirs = [a.dir().join("state"), b.dir().join("state")];
    let mut secrets = secrets(&link, &dirs);
    let token = admission_token(&lab, &discovery.url(), &link);
    secrets.push(("the admission token".to_owned(), token));
    // Those of ICE are in no file: the library would say them with its credentials.
    secrets.push(("an ICE password".to_owned(), "IceCreds".to_owned()));
    for (what, secret) in secrets {
        for (place, text) in &places {
            assert!(!text.contains(&secret), "{what} stands in {place}");
        }
    }
}
