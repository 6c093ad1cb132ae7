use super::*;

const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(u64::MAX / 1_000);

#[test]
fn a_duration_has_a_number_and_a_unit() {
    for (text, milliseconds) in [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
    ] {
        assert_eq!(
            duration(text, &ANY),
            Ok(Duration::from_millis(milliseconds))
        );
    }
    for text in [
        "",
        "30",
        "s",
        "-1s",
        "1.5s",
        "1 s",
        "1d",
        "s30",
        "1S",
        "99999999999999999999s",
        "99999999999999999h",
    ] {
        assert!(duration(text, &ANY).is_err(), "{text}");
    }
}

#[test]
fn a_duration_out_of_range_is_told_the_range() {
    let range = Duration::from_secs(1)..=Duration::from_secs(120);
    let rule = duration("5m", &range).unwrap_err();
    assert_eq!(rule, "must be from 1s to 120s");
    assert!(duration("0s", &range).is_err());
    assert!(duration("2m", &range).is_ok());
}

#[test]
fn an_mtu_lies_between_the_ipv4_minimum_and_a_jumbo_frame() {
    for good in ["576", "1400", "8908"] {
        assert!(mtu(good).is_ok(), "{good}");
    }
    for bad in ["575", "8909", "0", "-1", "65536", "1400.0", "0x578", ""] {
        assert!(mtu(bad).is_err(), "{bad}");
    }
}

#[test]
fn there_are_one_to_sixteen_threads() {
    for good in ["1", "16"] {
        assert!(threads(good).is_ok(), "{good}");
    }
    for bad in ["0", "17", "-1", "2.0", "two", ""] {
        assert!(threads(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_cidr_is_private_without_host_bits_and_with_room() {
    for good in [
        "10.100.0.0/16",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.7.0/24",
        "100.64.0.0/10",
        "10.1.2.4/30",
    ] {
        assert!(cidr(good).is_ok(), "{good}");
    }
    for bad in [
        "10.100.0.1/16",
        "8.8.8.0/24",
        "0.0.0.0/0",
        "10.0.0.0/7",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/8",
        "10.0.0.0/31",
        "10.0.0.0/32",
        "10.0.0.0",
        "10.0.0.0/33",
        "fd00::/8",
        "",
        "10.100/16",
    ] {
        assert!(cidr(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_cidr_with_host_bits_is_told_its_network() {
    let rule = cidr("10.100.7.3/16").unwrap_err();
    assert!(rule.contains("10.100.0.0/16"), "{rule}");
}

#[test]
fn an_interface_name_is_what_the_kernel_takes() {
    for good in ["mesh0", "a", "abcdefghijklmno", "mesh.0", "mesh-0"] {
        assert!(interface_name(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "abcdefghijklmnop",
        "a/b",
        "a b",
        "mesh%d",
        "a:1",
        ".",
        "..",
        "mesh\n",
        "é",
    ] {
        assert!(interface_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_stun_server_has_a_host_and_maybe_a_port() {
    let is = |text: &str, host: &str, port| {
        let server = stun_server(text).unwrap();
        assert_eq!((server.host.as_str(), server.port), (host, port), "{text}");
    };
    is("stun:stun.l.google.com:19302", "stun.l.google.com", 19302);
    is("stun:198.51.100.2", "198.51.100.2", 3478);
    is("stun.example.com:80", "stun.example.com", 80);
    is("stun:[2001:db8::1]:3479", "2001:db8::1", 3479);
    for bad in [
        "",
        "stun:",
        "stun:a:b",
        "stun:a:70000",
        "stun:a/b",
        "turn:a:1",
        "stun:u@a",
        "http://a",
        "stun:a?x",
        "stun:a b",
        "stun:a:0",
        "foo",
        "localhost",
    ] {
        assert!(stun_server(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_api_listens_on_loopback_only() {
    for good in ["127.0.0.1:7082", "[::1]:7082", "127.0.0.5:0"] {
        assert!(loopback(good).is_ok(), "{good}");
    }
    for bad in [
        "0.0.0.0:7082",
        "192.168.1.2:7082",
        "[::]:7082",
        "localhost:7082",
        "127.0.0.1",
        ":7082",
    ] {
        assert!(loopback(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_grantee_is_all_a_name_an_id_or_an_address() {
    for good in ["all", "bob", "10.100.0.2", "abcdefgh"] {
        assert!(grantee(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "*", "../x"] {
        assert!(grantee(bad).is_err(), "{bad}");
    }
}

#[test]
fn only_true_and_false_are_booleans() {
    assert_eq!(boolean("true"), Ok(true));
    assert_eq!(boolean("false"), Ok(false));
    for bad in ["yes", "True", "1", "on", ""] {
        assert!(boolean(bad).is_err(), "{bad}");
    }
}
