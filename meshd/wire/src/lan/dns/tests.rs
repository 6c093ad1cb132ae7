use super::*;

fn service(sealed: usize) -> Service {
    Service {
        instance: "abcdefghijklmnopqrstuvwxyz".into(),
        port: 7081,
        addresses: vec![[192, 168, 1, 2].into(), "fd00::2".parse().unwrap()],
        sealed: (0..sealed).map(|at| at.to_be_bytes()[7]).collect(),
    }
}

fn asks(labels: &[&str], kind: u16, class: u16) -> Vec<u8> {
    let mut writer = Writer::new(0, [1, 0, 0, 0]);
    writer.name(labels);
    writer.u16(kind);
    writer.u16(class);
    writer.bytes
}

#[test]
fn an_answer_is_heard_as_it_was_said() {
    for len in [1, 253, 254, 600, PART * MAX_PARTS] {
        let said = service(len);
        let heard = Heard::Answer(vec![(said.instance.clone(), said.sealed.clone())]);
        assert_eq!(read(&said.answer(), "other"), heard, "{len}");
    }
}

#[test]
fn a_usual_announcement_fits_one_packet_of_an_ethernet() {
    // A certificate under a link of the creator is under 400 bytes.
    assert!(service(700).answer().len() < 1_000);
}

#[test]
fn questions_for_the_service_the_instance_and_its_host_are_answered() {
    let own = service(9).instance;
    let [service, udp, local] = SERVICE;
    let instance = [own.as_str(), service, udp, local];
    assert_eq!(read(&question(&[]), &own), Heard::Question);
    let upper = own.to_uppercase();
    for (labels, kind) in [
        (&SERVICE[..], PTR),
        (&SERVICE, ANY),
        (&ALL_TYPES, PTR),
        (&instance, SRV),
        (&instance, TXT),
        (&instance, ANY),
        (&[&own, local], A),
        (&[&own, local], AAAA),
        (&[&upper, "_MESHD", udp, local], SRV),
    ] {
        for class in [INTERNET, INTERNET | TOP_BIT] {
            assert_eq!(
                read(&asks(labels, kind, class), &own),
                Heard::Question,
                "{labels:?}"
            );
        }
    }
    for (labels, kind) in [
        (&["_http", "_tcp", "local"][..], PTR),
        (&["other", service, udp, local], SRV),
        (&[&own, "example"], A),
        (&SERVICE, SRV),
        (&[], PTR),
    ] {
        assert_eq!(
            read(&asks(labels, kind, INTERNET), &own),
            Heard::Other,
            "{labels:?}"
        );
    }
}

#[test]
fn who_knows_the_answer_gets_none() {
    let own = service(9).instance;
    let known = [own.clone(), "another".to_owned()];
    assert_eq!(read(&question(&known), &own), Heard::Other);
    assert_eq!(read(&question(&known[1..]), &own), Heard::Question);
    // Known, but soon no more.
    let mut writer = Writer::new(0, [1, 1, 0, 0]);
    writer.name(&SERVICE);
    writer.u16(PTR);
    writer.u16(INTERNET);
    writer.pointer(&own, TTL / 2 - 1);
    assert_eq!(read(&writer.bytes, &own), Heard::Question);
}

#[test]
fn a_goodbye_and_other_services_are_nothing_to_us() {
    assert_eq!(read(&service(9).goodbye(), "x"), Heard::Other);
    let mut writer = Writer::new(IS_RESPONSE, [0, 1, 0, 0]);
    writer.record(&["tv", "_http", "_tcp", "local"], (TXT, 0), TTL, |writer| {
        writer.string(b"a=x")
    });
    assert_eq!(read(&writer.bytes, "x"), Heard::Other);
}

#[test]
fn what_is_cut_or_loops_is_no_packet() {
    let answer = service(600).answer();
    for cut in 0..answer.len() {
        let heard = read(&answer[..cut], "x");
        let whole = Heard::Answer(vec![(
            "abcdefghijklmnopqrstuvwxyz".into(),
            service(600).sealed,
        )]);
        assert!(heard == Heard::Other || heard == whole, "{cut}");
    }
    // A name that points to itself, forward, and round in a circle.
    for name in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12], &[1, b'a', 0xc0, 12]] {
        let mut packet = Writer::new(0, [1, 0, 0, 0]).bytes;
        packet.extend_from_slice(name);
        packet.extend_from_slice(&[0, 12, 0, 1]);
        assert_eq!(read(&packet, "x"), Heard::Other, "{name:?}");
    }
    assert_eq!(read(&vec![0; MAX_PACKET + 1], "x"), Heard::Other);
    assert_eq!(read(&[], "x"), Heard::Other);
}

#[test]
fn counts_that_promise_more_than_is_there_cost_nothing() {
    let mut answer = service(9).answer();
    answer[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
    assert!(matches!(read(&answer, "x"), Heard::Answer(found) if found.len() == 1));
    let mut ask = question(&[]);
    ask[4..6].copy_from_slice(&u16::MAX.to_be_bytes());
    assert_eq!(read(&ask, "x"), Heard::Other);
}
