//! The complete mesh-networking example: every key of it is known, and what is not built is refused by name.

use std::{path::Path, time::Duration};

use meshd::{
    config::{self, RawConfig, Settings, TurnTransport},
    problem::Problem,
};

const SEED: &str = include_str!("../examples/seed.yaml");

fn load(text: &str) -> Result<RawConfig, Problem> {
    let variables = |name: &str| match name {
        "TURN_USER" => Some("ann".to_owned()),
        "TURN_PASS" => Some("hunter2".to_owned()),
        _ => None,
    };
    config::parse_text(Path::new("mesh.yaml"), text, &variables)
}

/// The seed without the lines that were named.
fn without_refused_lines() -> String {
    let refused = config::not_built_keys(&load(SEED).expect("the seed is well-formed"));
    let named = |number: u64| {
        let mut ranges = refused.iter().map(|key| key.lines);
        ranges.any(|(first, last)| (first..=last).contains(&number))
    };
    let lines = (1..).zip(SEED.lines());
    lines
        .filter(|(number, _)| !named(*number))
        .flat_map(|(_, line)| [line, "\n"])
        .collect()
}

#[test]
fn the_seed_is_refused_with_exactly_the_keys_that_are_not_built() {
    let raw = load(SEED).unwrap();
    let refused: Vec<_> = config::not_built_keys(&raw)
        .into_iter()
        .map(|key| (key.lines, key.key))
        .collect();
    let expected = [((7, 7), "mesh.device.type")];
    assert_eq!(
        refused,
        expected.map(|(lines, key)| (lines, key.to_owned()))
    );

    let problem = Settings::parse(&raw, "box").unwrap_err();
    assert_eq!(problem.code, "config-feature-not-built");
    assert_eq!(problem.detail.lines().count(), expected.len(), "{problem}");
    for (_, key) in expected {
        assert!(problem.detail.contains(key), "{problem}");
    }
}

#[test]
fn the_seed_is_accepted_after_removing_exactly_the_named_lines() {
    let rest = without_refused_lines();
    assert_eq!(rest.lines().count(), SEED.lines().count() - 1);
    let settings = Settings::parse(&load(&rest).unwrap(), "box").unwrap();
    assert!(settings.enabled);
    assert_eq!(settings.network.id.as_str(), "my-network");
    assert_eq!(settings.network.cidr, "10.100.0.0/16".parse().unwrap());
    assert_eq!(settings.device.name, "mesh0");
    assert_eq!(settings.device.mtu, 1400);
    let server = settings.servers[0].clone();
    assert_eq!(server.as_str(), "http://bifrost.example.com:7080/");
    let stun = &settings.stun_servers[1];
    assert_eq!(
        (stun.host.as_str(), stun.port),
        ("stun1.l.google.com", 19302)
    );
    assert_eq!(
        settings.connection.heartbeat_interval,
        Duration::from_secs(30)
    );
    assert!(settings.connection.relay_enabled);
    let turn = &settings.turn_servers[0];
    assert_eq!(
        (turn.server.host.as_str(), turn.server.port),
        ("turn.example.com", 3478)
    );
    assert_eq!(
        (turn.username.as_str(), turn.password.expose()),
        ("ann", "hunter2")
    );
    assert_eq!(settings.connection.connect_timeout, Duration::from_secs(30));
    assert_eq!(
        settings.connection.keepalive_interval,
        Duration::from_secs(25)
    );
}

#[test]
fn each_key_that_is_not_built_is_refused_on_its_own() {
    for (text, key) in [
        (
            "mesh: {device: {mac_address: '02:00:00:00:00:01'}}",
            "mesh.device.mac_address",
        ),
        (
            "mesh: {connection: {direct_connect: false}}",
            "mesh.connection.direct_connect",
        ),
        (
            "mesh: {connection: {prefer_direct: true}}",
            "mesh.connection.prefer_direct",
        ),
        (
            "mesh: {connection: {prefer_direct: false}}",
            "mesh.connection.prefer_direct",
        ),
        ("shares: [{name: a, path: /a, rw: true}]", "shares[].rw"),
        (
            "api: {allow_remote_control: true}",
            "api.allow_remote_control",
        ),
        ("dns: {enabled: true}", "dns.enabled"),
    ] {
        let problem = Settings::parse(&load(text).unwrap(), "box").expect_err(text);
        assert_eq!(problem.code, "config-feature-not-built", "{problem}");
        assert!(
            problem.detail.starts_with(&format!("line 1: {key} ")),
            "{problem}"
        );
    }
}

#[test]
fn a_turn_server_is_reached_as_its_url_says() {
    for (url, host, port, transport) in [
        ("turn:a", "a", 3478, TurnTransport::Any),
        ("turn:a:443", "a", 443, TurnTransport::Any),
        ("turn:a:80", "a", 80, TurnTransport::Any),
        ("turn:a?transport=udp", "a", 3478, TurnTransport::Udp),
        ("turn:a:443?transport=tcp", "a", 443, TurnTransport::Tcp),
        ("turns:a", "a", 5349, TurnTransport::Tls),
        (
            "turns:[2001:db8::1]:443",
            "2001:db8::1",
            443,
            TurnTransport::Tls,
        ),
        ("turns:a?transport=tcp", "a", 5349, TurnTransport::Tls),
    ] {
        let text = format!("mesh: {{turn: {{servers: [{{url: '{url}'}}]}}}}");
        let settings = Settings::parse(&load(&text).unwrap(), "box").unwrap();
        let turn = &settings.turn_servers[0];
        let server = (turn.server.host.as_str(), turn.server.port);
        assert_eq!((server, turn.transport), ((host, port), transport), "{url}");
    }
    for url in [
        "turns:a?transport=udp",
        "turns:",
        "turn:",
        "turn:a?x=y",
        "a:3478",
        "stuns:a",
    ] {
        let text = format!("mesh: {{turn: {{servers: [{{url: '{url}'}}]}}}}");
        let problem = Settings::parse(&load(&text).unwrap(), "box").expect_err(url);
        assert!(
            problem.detail.contains("mesh.turn.servers[0].url"),
            "{problem}"
        );
    }
}

#[test]
fn a_value_that_states_what_this_version_does_anyway_is_accepted() {
    let text = "mesh:\n  device: {type: tun, mac_address: ''}\n  turn: {servers: []}\n  routing: {}\n  \
                connection: {direct_connect: true, relay_enabled: false, relay_via_peers: false}\n\
                shares: [{name: a, path: /a, rw: false}]\napi: {allow_remote_control: false}\ndns: {enabled: false}\n";
    Settings::parse(&load(text).unwrap(), "box").unwrap();
}

#[test]
fn the_seed_without_its_variables_names_both_with_their_lines() {
    let problem = config::parse_text(Path::new("mesh.yaml"), SEED, &|_| None).unwrap_err();
    assert_eq!(problem.code, "config-missing-variable");
    assert!(
        problem
            .detail
            .contains("line 21: the environment variable TURN_USER"),
        "{problem}"
    );
    assert!(
        problem
            .detail
            .contains("line 22: the environment variable TURN_PASS"),
        "{problem}"
    );
}

#[test]
fn the_password_of_the_seed_is_shown_nowhere() {
    let raw = load(SEED).unwrap();
    let problem = Settings::parse(&raw, "box").unwrap_err();
    assert!(!format!("{raw:?} {problem:?} {problem}").contains("hunter2"));
}
