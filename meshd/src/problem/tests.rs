use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use mesh_core::{Transport, Trouble};
use mesh_wire::{DecodeError, NodeId, trust::ListView};

use super::*;
use crate::config::{Finding, NotBuilt, Place};

fn one_of_each() -> Vec<Problem> {
    let path = Path::new("/tmp/x");
    let net = |text: &str| text.parse().unwrap();
    let server = url::Url::parse("http://198.51.100.2:7080/").unwrap();
    let id = "home".parse().unwrap();
    let address: SocketAddr = "0.0.0.0:7081".parse().unwrap();
    let finding = Finding::new(Place::Line(3), "mesh.listen_port", "must be a port");
    let flag = Finding::new(Place::Flag("--cidr"), "", "must be a range of addresses");
    let not_built = NotBuilt::new((4, 5), "mesh.turn.servers", "TURN relaying");
    let list = |members| ListView::Whole {
        members,
        hash: [0; 16],
    };
    vec![
        not_root(),
        no_tun_device(&"no such file"),
        interface_name_taken("mesh0"),
        cidr_overlap(net("10.100.0.0/16"), net("10.0.0.0/8"), "eth0"),
        port_in_use(Listener::Mesh, address),
        operation_failed("add a route", &"file exists"),
        key_file_mode(path, 0o644),
        state_locked(path),
        state_unreadable(path, &"denied"),
        state_unwritable(path, &"no space left"),
        state_damaged(path, &"it ends too early"),
        join_link_invalid(&DecodeError::new("join link", "is cut short")),
        already_joined(&id, &"work".parse().unwrap(), path),
        server_unreachable(&server, &"connection refused"),
        server_plain_http(server.as_str()),
        server_on_loopback(server.as_str()),
        server_untrusted(server.as_str(), &"its certificate has expired"),
        no_stun(&[address]),
        no_relay(address, &Transport::Udp, Trouble::Silent),
        no_relay(address, &Transport::Tcp, Trouble::Unreachable),
        no_relay(
            address,
            &Transport::Tls("turn.example.com".into()),
            Trouble::Untrusted,
        ),
        no_relay(
            address,
            &Transport::WebSocket("https://mesh.example/".into()),
            Trouble::Unreachable,
        ),
        no_relay(address, &Transport::Udp, Trouble::Refused(401)),
        server_embedded(&id, &server, path),
        server_embedded_first(&server),
        network_exists(&id, &server),
        network_key_differs(&id, &server),
        network_replaced(&id, server.as_str()),
        network_deleted(&id, server.as_str()),
        address_changed(&[[10, 100, 0, 1].into()], &[[10, 100, 0, 2].into()]),
        not_joined(),
        server_implausible(&server, "it names 8.0.0.0/8"),
        cidr_fixed(&id, net("10.100.0.0/16"), net("10.123.0.0/16")),
        cannot_certify(),
        no_address_left(net("10.100.0.0/30")),
        not_admin("invite others"),
        network_without_key("limit a join link"),
        role_not_held(&["bridge"]),
        lan_discovery_off(&"address already in use"),
        lists_differ(list(3), &[("bob".to_owned(), list(4))]).unwrap(),
        member_refused("bob", ("ann", true)),
        member_refused("bob", ("ann", false)),
        member_too_many("bob", (1, &["ann".to_owned()])),
        link_overused(
            (&NodeId::from_bytes([1; 32]), true),
            (1, &["ann".to_owned()]),
            &[("bob".to_owned(), NodeId::from_bytes([2; 32]))],
        ),
        link_contested(
            &NodeId::from_bytes([1; 32]),
            1,
            &[("ann".to_owned(), NodeId::from_bytes([2; 32]))],
        ),
        put_out(None, true),
        put_out_says("http://198.51.100.2:7080/"),
        put_out(Some((2, vec!["ann".to_owned()])), false),
        members_unsigned(&["bob".to_owned()]),
        daemon_not_running(path),
        peer_not_found("bob"),
        config_unreadable(path, &"no such file"),
        config_too_large(path, 1),
        config_invalid(path, &[finding]),
        config_invalid(path, &[flag]),
        config_unknown_key(path, 2, "conection", Some("`connection`")),
        config_missing_variable(path, &[(9, "TURN_PASS".to_owned())]),
        config_feature_not_built(path, &[not_built]),
        mesh_disabled(path),
        share_name_invalid("a/b", "it contains a slash"),
        share_path_relative(Path::new("docs")),
        share_path_private(path, path),
        share_path_unreadable(path, &"no such directory"),
        share_exists("docs"),
        share_not_found("docs"),
        socket_path_too_long(path),
        share_database(path, &sharing::StoreError::NoSuchShare("docs".into())),
    ]
}

#[test]
fn every_problem_says_what_why_and_the_fix() {
    for problem in one_of_each() {
        assert!(!problem.title.is_empty(), "{problem:?}");
        assert!(!problem.detail.is_empty(), "{problem:?}");
        assert!(!problem.fix.is_empty(), "{problem:?}");
    }
}

#[test]
fn the_list_of_codes_is_the_set_of_codes_that_are_made() {
    let made: BTreeSet<_> = one_of_each().into_iter().map(|p| p.code).collect();
    let listed: BTreeSet<_> = CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    assert_eq!(made, listed);
    assert_eq!(listed.len(), CODES.len(), "a code is listed twice");
}

#[test]
fn an_overlap_names_the_route_and_offers_a_range_that_overlaps_neither() {
    let problem = cidr_overlap(
        "10.100.0.0/16".parse().unwrap(),
        "10.0.0.0/8".parse().unwrap(),
        "eth0",
    );
    assert!(problem.title.contains("10.0.0.0/8"), "{problem}");
    assert!(problem.detail.contains("eth0"), "{problem}");
    assert!(problem.fix.contains("--cidr 172.29.0.0/16"), "{problem}");
}

#[test]
fn every_port_in_use_names_what_can_be_changed() {
    let address = "127.0.0.1:7082".parse().unwrap();
    for (listener, change) in [
        (Listener::Mesh, "mesh.listen_port"),
        (Listener::Api, "api.listen"),
        (Listener::Api, "--api 127.0.0.1:PORT"),
        (Listener::Discovery, "--server"),
        (Listener::Stun, "--server"),
        (Listener::Shares, "bind"),
    ] {
        let problem = port_in_use(listener, address);
        assert!(problem.title.contains("7082"), "{problem}");
        assert!(problem.fix.contains(change), "{problem}");
    }
}

#[test]
fn a_refusal_keeps_the_servers_code_and_fix() {
    let server = url::Url::parse("http://198.51.100.2:7080/").unwrap();
    let refusal = Problem::new(401, "unauthorized", "the token is wrong").fix("ask for a new link");
    let problem = server_refused(&server, &refusal);
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (401, "unauthorized")
    );
    assert_eq!(problem.fix, "ask for a new link");
    assert!(problem.title.contains("198.51.100.2"), "{problem}");
}

#[test]
fn a_key_files_problem_shows_its_mode_and_the_command_that_mends_it() {
    let problem = key_file_mode(Path::new("/s/identity.json"), 0o100_644);
    assert!(problem.detail.contains("644"), "{problem}");
    assert!(
        problem.fix.starts_with("chmod 600 /s/identity.json"),
        "{problem}"
    );
}
