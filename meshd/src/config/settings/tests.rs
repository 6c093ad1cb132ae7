use std::path::Path;

use super::*;
use crate::config::{EXAMPLE, KEYS, Overrides, parse_text};

fn raw(text: &str) -> RawConfig {
    parse_text(Path::new("m.yaml"), text, &|_| None).expect(text)
}

fn settings(text: &str) -> Settings {
    Settings::parse(&raw(text), "Box.local").unwrap_or_else(|problem| panic!("{text}{problem}"))
}

fn problem_of(text: &str) -> Problem {
    Settings::parse(&raw(text), "box").expect_err(text)
}

#[test]
fn an_empty_file_means_the_documented_defaults() {
    let settings = settings("");
    assert!(settings.enabled);
    assert_eq!(settings.network.id.as_str(), "my-network");
    assert_eq!(settings.network.cidr, "10.100.0.0/16".parse().unwrap());
    assert_eq!(settings.name, "box");
    assert_eq!(settings.servers, []);
    assert_eq!((settings.listen_port, settings.device.threads), (7081, 1));
    assert_eq!(
        (settings.device.name.as_str(), settings.device.mtu),
        ("mesh0", 1400)
    );
    assert!(settings.device.offload && settings.device.realtime);
    assert_eq!(
        settings.connection.heartbeat_interval,
        Duration::from_secs(30)
    );
    assert_eq!(settings.connection.connect_timeout, Duration::from_secs(30));
    assert_eq!(
        settings.connection.keepalive_interval,
        Duration::from_secs(25)
    );
    assert_eq!(settings.connection.cipher, Cipher::ChaCha20Poly1305);
    assert!(settings.connection.lan);
    assert!(settings.stun_servers.is_empty() && settings.shares.is_empty());
    assert_eq!(settings.api_listen, "127.0.0.1:7082".parse().unwrap());
    assert_eq!(settings.log.level, Level::INFO);
    assert_eq!(settings.log.format, LogFormat::Text);
}

#[test]
fn the_printed_example_is_accepted_and_states_the_defaults() {
    assert_eq!(settings(EXAMPLE), settings(""));
}

#[test]
fn the_printed_example_shows_every_key_of_this_version() {
    let refused_everywhere = ["mesh.routing", "mesh.connection.prefer_direct"];
    for key in KEYS {
        if refused_everywhere
            .iter()
            .any(|refused| key.path.starts_with(refused))
        {
            continue;
        }
        let name = key.path.rsplit('.').next().unwrap();
        assert!(EXAMPLE.contains(&format!("{name}:")), "{}", key.path);
    }
}

#[test]
fn every_value_reaches_the_settings() {
    let settings = settings(
        "mesh:\n  enabled: false\n  network_id: home\n  network_cidr: 10.7.0.0/24\n  trust: psk\n  name: ann\n  listen_port: 0\n  \
         device: {name: lan0, mtu: 1280, offload: false, threads: 2, realtime: false}\n  discovery: {server: 'https://d.example:8443', servers: [b], heartbeat_interval: 5s, lan: false}\n  \
         stun: {servers: ['stun:a.example:1']}\n  connection: {connect_timeout: 1m, keepalive_interval: 10s, cipher: auto}\n\
         shares:\n  - {name: docs, path: /srv, to: [bob, 10.7.0.2], rw: false}\n\
         api: {listen: '[::1]:1'}\nlog: {level: debug, format: json}\n",
    );
    assert!(!settings.enabled);
    assert_eq!(settings.network.id.as_str(), "home");
    assert_eq!(settings.network.cidr, "10.7.0.0/24".parse().unwrap());
    assert_eq!(settings.network.trust, Trust::Psk);
    assert_eq!(settings.name, "ann");
    let servers = settings.servers.iter().map(Url::as_str);
    let servers: Vec<_> = servers.collect();
    assert_eq!(servers, ["https://d.example:8443/", "http://b:7080/"]);
    assert_eq!((settings.listen_port, settings.device.threads), (0, 2));
    assert_eq!(
        (settings.device.name.as_str(), settings.device.mtu),
        ("lan0", 1280)
    );
    assert!(!settings.device.offload && !settings.device.realtime);
    assert_eq!(
        settings.connection.heartbeat_interval,
        Duration::from_secs(5)
    );
    assert_eq!(settings.connection.connect_timeout, Duration::from_secs(60));
    assert_eq!(
        settings.connection.keepalive_interval,
        Duration::from_secs(10)
    );
    assert_eq!(settings.connection.cipher, Cipher::Auto);
    assert!(!settings.connection.lan);
    assert_eq!(settings.stun_servers[0].port, 1);
    assert_eq!(settings.shares[0].path, Path::new("/srv"));
    assert_eq!(settings.shares[0].to, ["bob", "10.7.0.2"]);
    assert_eq!(settings.api_listen, "[::1]:1".parse().unwrap());
    assert_eq!(
        (settings.log.level, settings.log.format),
        (Level::DEBUG, LogFormat::Json)
    );
}

#[test]
fn every_wrong_value_is_listed_with_its_line_and_key() {
    let problem = problem_of(
        "mesh:\n  enabled: yes\n  network_cidr: 8.8.8.0/24\n  listen_port: 70000\n  device:\n    name: a/b\n    mtu: 100\n    \
         type: tab\n  connection:\n    connect_timeout: 30\n  routing:\n    max_hops: 0\nshares:\n  - name: x\n",
    );
    assert_eq!(problem.code, "config-invalid");
    for expected in [
        "line 2: mesh.enabled ",
        "line 3: mesh.network_cidr ",
        "line 4: mesh.listen_port ",
        "line 6: mesh.device.name ",
        "line 7: mesh.device.mtu ",
        "line 8: mesh.device.type ",
        "line 10: mesh.connection.connect_timeout ",
        "line 12: mesh.routing.max_hops ",
        "line 14: shares[0].path is missing",
    ] {
        assert!(problem.detail.contains(expected), "{expected}: {problem}");
    }
    let lines: Vec<&str> = problem.detail.lines().map(str::trim_start).collect();
    assert!(
        lines[2].starts_with("line 4:") && lines[5].starts_with("line 8:"),
        "in order: {problem}"
    );
    assert!(problem.title.contains("9 errors"), "{problem}");
}

#[test]
fn every_key_judges_its_value() {
    for (text, key) in [
        ("mesh: {network_id: A_b}", "mesh.network_id"),
        ("mesh: {name: a.b}", "mesh.name"),
        ("mesh: {device: {offload: no}}", "mesh.device.offload"),
        (
            "mesh: {device: {mac_address: '02:00'}}",
            "mesh.device.mac_address",
        ),
        (
            "mesh: {discovery: {server: 'ftp://x'}}",
            "mesh.discovery.server",
        ),
        (
            "mesh: {discovery: {heartbeat_interval: 500ms}}",
            "mesh.discovery.heartbeat_interval",
        ),
        (
            "mesh: {discovery: {server: a, servers: [b, 'http://A:7080']}}",
            "mesh.discovery.servers[1]",
        ),
        (
            "mesh: {discovery: {servers: ['http://ann:secret@b']}}",
            "mesh.discovery.servers[0]",
        ),
        (
            "mesh: {discovery: {server: a, servers: [b, c, d, e, f, g, h, i]}}",
            "mesh.discovery.servers[7]",
        ),
        (
            "mesh: {stun: {servers: ['turn:a']}}",
            "mesh.stun.servers[0]",
        ),
        (
            "mesh: {turn: {servers: [{url: 'stun:a'}]}}",
            "mesh.turn.servers[0].url",
        ),
        (
            "mesh: {turn: {servers: [{url: 'turn:a?transport=sctp'}]}}",
            "mesh.turn.servers[0].url",
        ),
        (
            "mesh: {turn: {servers: [{username: a}]}}",
            "mesh.turn.servers[0].url",
        ),
        (
            "mesh: {connection: {direct_connect: 1}}",
            "mesh.connection.direct_connect",
        ),
        (
            "mesh: {connection: {prefer_direct: 1}}",
            "mesh.connection.prefer_direct",
        ),
        (
            "mesh: {connection: {relay_enabled: 1}}",
            "mesh.connection.relay_enabled",
        ),
        (
            "mesh: {connection: {relay_via_peers: 1}}",
            "mesh.connection.relay_via_peers",
        ),
        (
            "mesh: {connection: {relay_via_peers: true}, device: {threads: 2}}",
            "mesh.connection.relay_via_peers",
        ),
        (
            "mesh: {connection: {keepalive_interval: 3m}}",
            "mesh.connection.keepalive_interval",
        ),
        (
            "mesh: {connection: {cipher: aes}}",
            "mesh.connection.cipher",
        ),
        (
            "mesh: {routing: {route_timeout: 2}}",
            "mesh.routing.route_timeout",
        ),
        (
            "mesh: {routing: {split_horizon: on}}",
            "mesh.routing.split_horizon",
        ),
        ("shares: [{name: a/b, path: /a}]", "shares[0].name"),
        ("shares: [{name: a, path: a}]", "shares[0].path"),
        (
            "shares: [{name: a, path: /a, to: ['*']}]",
            "shares[0].to[0]",
        ),
        ("shares: [{name: a, path: /a, rw: 1}]", "shares[0].rw"),
        (
            "shares: [{name: a, path: /a}, {name: A, path: /b}]",
            "shares[1].name",
        ),
        ("api: {listen: '0.0.0.0:1'}", "api.listen"),
        ("api: {allow_remote_control: 1}", "api.allow_remote_control"),
        ("dns: {enabled: 1}", "dns.enabled"),
        ("log: {level: loud}", "log.level"),
        ("log: {format: xml}", "log.format"),
    ] {
        let problem = problem_of(text);
        assert_eq!(problem.code, "config-invalid", "{text}: {problem}");
        assert!(
            problem.detail.starts_with(&format!("line 1: {key} ")),
            "{text}: {problem}"
        );
    }
}

#[test]
fn a_wrong_flag_is_called_by_its_name_and_the_file_is_not_blamed() {
    let mut raw = raw("");
    raw.overlay(Overrides {
        cidr: Some("10.0.0.1/8".to_owned()),
        ..Overrides::default()
    });
    let problem = Settings::parse(&raw, "box").unwrap_err();
    assert!(problem.detail.starts_with("--cidr: "), "{problem}");
    assert!(!problem.title.contains("m.yaml"), "{problem}");
}

#[test]
fn a_wrong_value_is_not_shown() {
    let problem = problem_of("mesh: {network_id: HUNTER2}");
    assert!(!problem.to_string().contains("HUNTER2"), "{problem}");
}

#[test]
fn a_disabled_mesh_is_a_plain_problem_of_meshd_up() {
    let raw = raw("mesh:\n  enabled: false\n");
    let settings = Settings::parse(&raw, "box").unwrap();
    let problem = settings.require_enabled(&raw).unwrap_err();
    assert_eq!(problem.code, "mesh-disabled");
    assert!(problem.to_string().contains("m.yaml"), "{problem}");
}
