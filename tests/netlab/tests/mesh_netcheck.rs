//! Does `meshd netcheck` say of each kind of network what it is? The servers are coturn, which can answer from a second
//! address (RFC 5780), and our own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::Ipv4Addr, time::Duration};

use netlab::{Asking, Daemon, Discovery, Host, Lab, MiniUpnp, Nat, Output, binary, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// coturn with two addresses and two ports.
fn coturn(lab: &Lab) -> Host {
    let server = lab.internet().public_host("stun").unwrap();
    let second = lab.internet().add_address(&server).unwrap();
    let addresses: [Ipv4Addr; 2] = [server.address(), second];
    let mut command = server.command("turnserver");
    command.args([
        "-n",
        "--no-tls",
        "--no-dtls",
        "--no-cli",
        "--log-file",
        "stdout",
    ]);
    command.args(["--lt-cred-mech", "--realm", "lab", "--user", "a:b"]);
    command.arg("--pidfile").arg(server.dir().join("pid"));
    command.arg("--userdb").arg(server.dir().join("turndb"));
    for address in addresses {
        command.args(["-L", &address.to_string()]);
    }
    server.spawn_command(command).unwrap();
    for port in [3478, 3479] {
        let wanted = format!("{second}:{port} ");
        wait_until("coturn serves", LIMIT, || {
            Ok(server.run("ss", ["-Hnul"])?.stdout.contains(&wanted))
        })
        .unwrap();
    }
    server
}

/// `meshd netcheck` without a daemon, with these STUN servers.
fn netcheck(host: &Host, servers: &[&str], json: bool) -> Output {
    let listed: Vec<_> = servers
        .iter()
        .map(|server| format!("\"stun:{server}\""))
        .collect();
    let file = host.dir().join("netcheck.yaml");
    let text = format!("mesh:\n  stun:\n    servers: [{}]\n", listed.join(", "));
    std::fs::write(&file, text).unwrap();
    let mut command = host.command(binary("meshd").unwrap());
    command.arg("--state-dir").arg(host.dir().join("none"));
    command.arg("netcheck").arg("--config").arg(file);
    command.args(json.then_some("--json"));
    host.run_command(command, LIMIT).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn codes(report: &Value) -> Vec<&str> {
    let problems = report["problems"].as_array().unwrap();
    problems
        .iter()
        .map(|problem| problem["code"].as_str().unwrap())
        .collect()
}

/// What is said of a host behind that NAT: whether there is one, mapping, filtering.
fn says(nat: Nat, present: bool, mapping: &str, filtering: &str) -> Value {
    let lab = Lab::new("netcheck").unwrap();
    let server = coturn(&lab);
    let home = lab.internet().home("home", nat).unwrap();
    let host = home.host("pc").unwrap();
    let server = format!("{}:3478", server.address());
    let output = netcheck(&host, &[&server], true);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&output);
    let found = &report["nat"];
    assert_eq!(found["present"], present, "{report:#}");
    assert_eq!(found["mapping"], mapping, "{report:#}");
    assert_eq!(found["filtering"], filtering, "{report:#}");
    assert_eq!(report["udp"], true);
    let seen = report["ipv4"]["reflexive"].as_str().unwrap();
    let public = if present {
        home.outermost().address()
    } else {
        host.address()
    };
    assert!(seen.starts_with(&format!("{public}:")), "{report:#}");
    assert_eq!(report["ipv4"]["local"], host.address().to_string());
    let asked = &report["servers"][0];
    assert_eq!(asked["address"], server.as_str());
    assert!(asked["stun_rtt_ms"].as_f64().unwrap() < 250.0, "{report:#}");
    assert!(asked["turn_rtt_ms"].as_f64().unwrap() < 250.0, "{report:#}");
    report
}

#[test]
fn without_a_nat_everything_is_endpoint_independent() {
    let report = says(
        Nat::Open,
        false,
        "endpoint_independent",
        "endpoint_independent",
    );
    assert_eq!(report["nat"]["hairpin"], Value::Null);
    assert_eq!(codes(&report), [""; 0]);
}

#[test]
fn a_full_cone_is_endpoint_independent() {
    says(
        Nat::FullCone,
        true,
        "endpoint_independent",
        "endpoint_independent",
    );
}

#[test]
fn an_address_restricted_cone_filters_by_address() {
    says(
        Nat::AddressRestricted,
        true,
        "endpoint_independent",
        "address_dependent",
    );
}

#[test]
fn a_port_restricted_cone_filters_by_address_and_port() {
    let report = says(
        Nat::PortRestricted,
        true,
        "endpoint_independent",
        "address_and_port_dependent",
    );
    assert_eq!(report["nat"]["hairpin"], false, "{report:#}");
}

#[test]
fn a_router_that_hairpins_is_known_from_one_that_does_not() {
    let lab = Lab::new("netcheck-hairpin").unwrap();
    let server = coturn(&lab);
    let home = lab.internet().home("home", Nat::FullCone).unwrap();
    let host = home.host("pc").unwrap();
    let hairpin = || {
        let output = netcheck(&host, &[&format!("{}:3478", server.address())], true);
        report(&output)["nat"]["hairpin"].clone()
    };
    assert_eq!(hairpin(), false);
    home.allow_hairpin().unwrap();
    assert_eq!(hairpin(), true);
}

/// The judge is dnsmasq, which gives the name of RFC 7050 the IPv6 address that a DNS64 would make for it.
#[test]
fn the_prefix_of_a_nat64_is_what_the_resolver_shows() {
    let lab = Lab::new("netcheck-nat64").unwrap();
    for (name, made, prefix) in [
        ("nat64", ",64:ff9b::c000:aa", "64:ff9b::/96".into()),
        ("plain", "", Value::Null),
    ] {
        let host = lab.internet().public_host(name).unwrap();
        let record = format!("--host-record=ipv4only.arpa,192.0.0.170{made}");
        let options = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ];
        let _dns = host
            .spawn(
                "dnsmasq",
                options
                    .into_iter()
                    .chain(["--user=root", "--pid-file", &record]),
            )
            .unwrap();
        wait_until("dnsmasq serves", LIMIT, || {
            Ok(host.sh("ss -Hnul")?.stdout.contains("0.0.0.0:53 "))
        })
        .unwrap();
        let resolver = host.dir().join("resolv.conf");
        std::fs::write(&resolver, "nameserver 127.0.0.1\n").unwrap();
        // Another resolver for this process alone.
        let mut command = host.command("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(
            r#"mount --bind "$1" /etc/resolv.conf && exec "$2" --state-dir none netcheck --json"#,
        );
        command.args([
            "sh".as_ref(),
            resolver.as_os_str(),
            binary("meshd").unwrap().as_os_str(),
        ]);
        let report = report(&host.run_command(command, LIMIT).unwrap());
        assert_eq!(report["nat64_prefix"], prefix, "{report:#}");
    }
}

#[test]
fn a_symmetric_nat_maps_and_filters_by_address_and_port_and_is_a_problem() {
    let report = says(
        Nat::Symmetric,
        true,
        "address_and_port_dependent",
        "address_and_port_dependent",
    );
    assert_eq!(codes(&report), ["hard-nat"]);
}

#[test]
fn our_own_servers_say_what_they_can_and_no_more() {
    let lab = Lab::new("netcheck-ours").unwrap();
    let servers = ["one", "two"].map(|name| {
        let host = lab.internet().public_host(name).unwrap();
        let _discovery = Discovery::start(&host).unwrap();
        format!("{}:3478", host.address())
    });
    let [one, two] = [&servers[0], &servers[1]].map(String::as_str);
    let by_both = "address_and_port_dependent";
    for (nat, asked, mapping, filtering) in [
        (Nat::FullCone, &[one][..], "unknown", "unknown"),
        (Nat::PortRestricted, &[one], "unknown", by_both),
        (Nat::Symmetric, &[one], by_both, by_both),
        (
            Nat::FullCone,
            &[one, two],
            "endpoint_independent",
            "unknown",
        ),
        (
            Nat::PortRestricted,
            &[one, two],
            "endpoint_independent",
            by_both,
        ),
        (Nat::Symmetric, &[one, two], by_both, by_both),
    ] {
        let name = format!("{nat:?}{}", asked.len());
        let host = lab.internet().home(&name, nat).unwrap().host("pc").unwrap();
        let report = report(&netcheck(&host, asked, true));
        let found = &report["nat"];
        assert_eq!(found["mapping"], mapping, "{nat:?}, {asked:?}: {report:#}");
        assert_eq!(
            found["filtering"], filtering,
            "{nat:?}, {asked:?}: {report:#}"
        );
        for server in report["servers"].as_array().unwrap() {
            assert!(server["turn_rtt_ms"].is_number(), "{report:#}");
        }
    }
}

#[test]
fn blocked_udp_is_told_from_a_dead_server_and_fails() {
    let lab = Lab::new("netcheck-blocked").unwrap();
    let server = coturn(&lab);
    let home = lab.internet().home("home", Nat::UdpBlocked).unwrap();
    let host = home.host("pc").unwrap();
    let output = netcheck(&host, &[&format!("{}:3478", server.address())], true);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let blocked = report(&output);
    assert_eq!(
        (&blocked["udp"], codes(&blocked)[0]),
        (&false.into(), "udp-blocked")
    );
    assert!(output.stderr.contains("fix:"), "{output:?}");
    let output = netcheck(&host, &[&format!("{}:9", server.address())], true);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(codes(&report(&output)), ["no-answer"]);
    let output = netcheck(&host, &[], true);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(codes(&report(&output)), ["no-server-to-ask"]);
}

#[test]
fn the_text_has_the_words_of_rfc_4787() {
    let lab = Lab::new("netcheck-text").unwrap();
    let server = coturn(&lab);
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let router = MiniUpnp::start(lab.internet(), &home, Asking::Pcp).unwrap();
    let host = home.host("pc").unwrap();
    let output = netcheck(&host, &[&format!("{}:3478", server.address())], false);
    let text = &output.stdout;
    for words in [
        "Endpoint-Independent Mapping, Address and Port-Dependent Filtering",
        "hairpin       no",
        &format!("{}:", router.external),
        "by PCP, for 600 s at a time",
        "nat64 prefix  none",
        &format!(
            "gateway       {} on eth0",
            home.router()
                .sh("ip -4 -o addr show lan0")
                .unwrap()
                .stdout
                .split_whitespace()
                .nth(3)
                .unwrap()
                .trim_end_matches("/24")
        ),
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    assert_eq!(
        router.mappings().unwrap(),
        [""; 0],
        "the probe gives its port back"
    );
}

#[test]
fn a_running_daemon_says_which_servers_there_are_and_what_its_router_says() {
    let lab = Lab::new("netcheck-daemon").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let home = lab.internet().home("alice", Nat::PortRestricted).unwrap();
    let router = MiniUpnp::start(lab.internet(), &home, Asking::Upnp).unwrap();
    let alice = home.host("pc").unwrap();
    let alice = Daemon::up(&alice, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    wait_until("STUN and the router have answered", LIMIT, || {
        let nat = alice.status()?["nat"].clone();
        Ok(nat["behind_nat"] == true && nat["port_mapping"]["state"] == "mapped")
    })
    .unwrap();
    let bob = lab.internet().public_host("bob").unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&bob, &["--join", &link, "--name", "bob"]).unwrap();
    alice.first_echo(&bob, LIMIT).unwrap();
    wait_until("the path is measured", LIMIT, || {
        Ok(alice.peer("bob")?["mtu"].is_number())
    })
    .unwrap();
    let report: Value = serde_json::from_str(&alice.ask(&["netcheck", "--json"]).unwrap()).unwrap();
    assert_eq!(report["from_daemon"], true, "{report:#}");
    let address = format!("{}:3478", server.address());
    assert_eq!(report["servers"][0]["address"], address.as_str());
    assert!(
        report["servers"][0]["turn_rtt_ms"].is_number(),
        "{report:#}"
    );
    assert_eq!(report["port_mapping"]["protocol"], "upnp", "{report:#}");
    assert_eq!(
        report["port_mapping"]["external"],
        format!("{}:7081", router.external)
    );
    assert!(report["gateways"][0]["address"].is_string(), "{report:#}");
    let path = json!([{ "peer": "bob", "mtu": 1400 }]);
    assert_eq!(report["path_mtu"], path, "{report:#}");
}

#[test]
fn ipv6_has_its_own_answer() {
    let lab = Lab::new("netcheck-v6").unwrap();
    let internet = lab.internet();
    let server = internet.public_host("server").unwrap();
    let host = internet.public_host("host").unwrap();
    let _discovery = Discovery::start(&server).unwrap();
    let router = internet.router();
    router.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
    for (number, machine) in [(1, &server), (2, &host)] {
        let port = format!("p{}", machine.address().octets()[3]);
        router
            .namespace()
            .ip(&format!(
                "addr add 2001:db8:{number}::1/64 dev {port} nodad"
            ))
            .unwrap();
        machine
            .namespace()
            .ip(&format!(
                "addr add 2001:db8:{number}::2/64 dev eth0 nodad\n\
                 route add default via 2001:db8:{number}::1 dev eth0"
            ))
            .unwrap();
    }
    let both = [
        &format!("{}:3478", server.address()),
        "[2001:db8:1::2]:3478",
    ];
    let output = netcheck(&host, &both, true);
    let report = report(&output);
    assert_eq!(report["ipv6"]["local"], "2001:db8:2::2", "{report:#}");
    let seen = report["ipv6"]["reflexive"].as_str().unwrap();
    assert!(seen.starts_with("[2001:db8:2::2]:"), "{report:#}");
    assert!(report["ipv4"]["reflexive"].is_string(), "{report:#}");
    let gateways = report["gateways"].as_array().unwrap();
    assert_eq!(
        gateways[1]["address"],
        "2001:db8:1::1".replace(":1::", ":2::")
    );
}
