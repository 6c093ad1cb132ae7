//! Does a mesh work whose discovery server stands behind nginx and is reached by https, and is everything refused that
//! does not prove to be that server?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::{thread::sleep, time::Duration};

use netlab::{Bytes, Daemon, Does, Front, Host, Nat, Output, Pings};

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = Front::NAME;
const URL: &str = Front::URL;

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap()
}

fn home(scene: &Front, name: &str) -> Host {
    let home = scene
        .lab
        .internet()
        .home(&format!("h{name}"), Nat::Symmetric);
    home.unwrap().host(name).unwrap()
}

fn launch(scene: &Front, name: &str, trusted: &str, how: [&str; 2]) -> Daemon {
    let host = home(scene, name);
    let program = scene.program(&host, trusted, "").unwrap();
    scene.name_on(&host).unwrap();
    Daemon::launch_program(&program, &host, &[&how[..], &["--name", name]].concat()).unwrap()
}

fn up(scene: &Front, name: &str, how: [&str; 2]) -> Daemon {
    let mut daemon = launch(scene, name, "known.pem", how);
    daemon.wait_ready().unwrap();
    daemon
}

fn is_connected(daemon: &Daemon) -> bool {
    let server = &daemon.status().unwrap()["server"];
    assert_eq!(server["url"], URL);
    server["connected"] == true
}

fn health(daemon: &Daemon) -> String {
    daemon.status().unwrap()["health"].to_string()
}

/// The status code of an answer to `POST /api/v1/mesh/networks` by https.
fn create(scene: &Front, from: &Host, id: usize, more: &str) -> String {
    let (front, authority) = (scene.front.address(), scene.file("known.pem"));
    let body = format!(r#"{{"id":"n{id}","cidr":"10.1.0.0/16","admission_token":"x"}}"#);
    let line = format!(
        "curl -sS -o /dev/null -w '%{{http_code}}' --cacert {} --resolve {NAME}:443:{front} {more} \
         -H 'Content-Type: application/json' -d '{body}' {URL}api/v1/mesh/networks",
        authority.display()
    );
    from.sh(&line).unwrap().stdout
}

#[test]
fn a_mesh_behind_nginx_is_made_joined_and_outlives_a_restart_of_nginx() {
    let scene = Front::new("https").unwrap();
    scene.certify("known", NAME, 0).unwrap();
    let nginx = scene.nginx(Does::Pass).unwrap();
    let outside = Bytes::start(&scene.front, "tcp port 443").unwrap();
    let inside = Bytes::start(&scene.server, "tcp port 7080").unwrap();
    let alice = up(&scene, "alice", ["--server", URL]);
    let link = alice.join_link().unwrap();
    assert!(link.starts_with(URL), "{link}");
    let bob = up(&scene, "bob", ["--join", &link]);
    // Both behind symmetric NATs: the relay was found at its own address.
    alice.first_echo(&bob, 10 * SECOND).unwrap();
    wait_until("it is told", 3 * SECOND, || {
        bob.peer("alice").unwrap()["path"] == "turn"
    });

    let pings = Pings::start(&alice, &bob).unwrap();
    nginx.kill().unwrap();
    wait_until("both notice", 10 * SECOND, || {
        !is_connected(&alice) && !is_connected(&bob)
    });
    let nginx = scene.nginx(Does::Pass).unwrap();
    let took = wait_until("both are back", 60 * SECOND, || {
        is_connected(&alice) && is_connected(&bob)
    });
    println!("back {:.1} s after nginx", took.as_secs_f64());
    let (sent, lost) = pings.end().unwrap();
    assert!(sent > 0 && lost == 0, "{lost} of {sent}: {}", pings.log());
    let link = alice.ask(&["invite"]).unwrap();
    let carol = up(&scene, "carol", ["--join", link.trim()]);
    carol.first_echo(&bob, 10 * SECOND).unwrap();

    let secrets = ["Bearer ", "/api/v1/mesh", "my-network", "HTTP/1.1"];
    assert_eq!(
        outside.finish(secrets).unwrap(),
        [0; 4],
        "what TLS shall hide"
    );
    let plain = inside.finish(secrets).unwrap();
    assert!(
        plain.iter().all(|times| *times > 0),
        "the search finds it: {plain:?}"
    );
    drop(nginx);
}

#[test]
fn plain_http_over_the_internet_is_noted_and_https_and_plain_http_at_home_are_not() {
    let scene = Front::new("plainnote").unwrap();
    scene.certify("known", NAME, 0).unwrap();
    let _nginx = scene.nginx(Does::Pass).unwrap();
    let plain = format!("http://{}:7080/", scene.server.address());
    let alice = up(&scene, "alice", ["--server", &plain]);
    let notes = |daemon: &Daemon| daemon.status().unwrap()["notes"].clone();
    let noted = notes(&alice);
    assert_eq!(noted[0]["code"], "server-plain-http", "{noted}");
    assert!(noted[0]["title"].as_str().unwrap().contains(&plain));
    assert_eq!(health(&alice), "[]");
    let shown = alice.ask(&["status"]).unwrap();
    let said = "is reached over plain http";
    assert!(shown.contains("note: ") && shown.contains(said), "{shown}");
    let link = alice.join_link().unwrap();
    let bob = up(&scene, "bob", ["--join", &link]);
    bob.ask(&["servers", "set", URL]).unwrap();
    wait_until("bob is there by https", 20 * SECOND, || is_connected(&bob));
    wait_until("nothing is noted", 3 * SECOND, || {
        notes(&bob).as_array().unwrap().is_empty()
    });
    // Once each, however often it is connected.
    for daemon in [&alice, &bob] {
        assert_eq!(daemon.process.log().matches(said).count(), 1);
    }
    // A server inside a daemon at home.
    let home = scene
        .lab
        .internet()
        .home("lan", Nat::PortRestricted)
        .unwrap();
    let own = Daemon::up(&home.host("own").unwrap(), &["--name", "own"]).unwrap();
    assert_eq!(notes(&own).as_array().unwrap().len(), 0, "{}", notes(&own));
    assert!(!own.process.log().contains(said));
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_limits_and_nobody_elses() {
    let scene = Front::new("clients").unwrap();
    scene.certify("known", NAME, 0).unwrap();
    let _nginx = scene.nginx(Does::Pass).unwrap();
    let [eager, other] = ["eager", "other"].map(|name| home(&scene, name));
    let codes: Vec<_> = (0..25).map(|id| create(&scene, &eager, id, "")).collect();
    assert_ne!(codes[0], "429");
    assert_eq!(codes[24], "429", "{codes:?}");
    // What a client says of itself, nginx passes on in front of what it knows.
    let lie = "-H 'X-Forwarded-For: 192.0.2.77'";
    assert_eq!(create(&scene, &eager, 30, lie), "429");
    assert_ne!(create(&scene, &other, 31, ""), "429");
    // Past the proxy nobody is believed.
    let direct = format!(
        "for n in $(seq 25); do curl -sS -o /dev/null -w '%{{http_code}} ' -H \"X-Forwarded-For: 192.0.2.$n\" \
         -H 'Content-Type: application/json' -d '{{\"id\":\"d'$n'\",\"cidr\":\"10.1.0.0/16\",\"admission_token\":\"x\"}}' \
         http://{}:7080/api/v1/mesh/networks; done",
        scene.server.address()
    );
    let codes = home(&scene, "direct").sh(&direct).unwrap().stdout;
    assert!(codes.trim().ends_with("429"), "{codes}");
}

/// The daemon has ended, and said this.
fn refusal(daemon: &Daemon) -> String {
    let status = daemon.process.wait(20 * SECOND).unwrap();
    assert_eq!(status.code(), Some(1), "{}", daemon.process.log());
    daemon.process.log()
}

#[test]
fn who_does_not_prove_to_be_the_server_is_told_nothing_and_named() {
    let scene = Front::new("untrusted").unwrap();
    scene.certify("known", NAME, 0).unwrap();
    let nginx = scene.nginx(Does::Pass).unwrap();
    let alice = up(&scene, "alice", ["--server", URL]);
    let link = alice.join_link().unwrap();
    nginx.kill().unwrap();
    wait_until("she notices", 10 * SECOND, || !is_connected(&alice));
    for (number, (authority, name, days_ago, why)) in [
        ("unknown", NAME, 0, "no authority that this machine trusts"),
        (
            "known",
            "other.example",
            0,
            "its certificate is for other.example and not for this name",
        ),
        ("known", NAME, 20, "its certificate has expired"),
    ]
    .into_iter()
    .enumerate()
    {
        scene.certify(authority, name, days_ago).unwrap();
        let nginx = scene.nginx(Does::Pass).unwrap();
        let heard = Bytes::start(&scene.front, "tcp port 443").unwrap();
        let passed_on = Bytes::start(&scene.server, "tcp port 7080").unwrap();
        let guest = format!("b{number}");
        let said = refusal(&launch(&scene, &guest, "known.pem", ["--join", &link]));
        println!("{said}");
        for part in [
            "error: the discovery server https://mesh.example/ does not prove",
            why,
            "fix: ",
            "SSL_CERT_FILE",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // Who is a member waits, and says the same.
        wait_until("she says it", 40 * SECOND, || {
            let health = health(&alice);
            health.contains("server-untrusted") && health.contains(why)
        });
        let secrets = ["Bearer ", "/api/v1/mesh", "my-network"];
        assert_eq!(heard.finish(secrets).unwrap(), [0; 3]);
        assert_eq!(passed_on.finish(["Bearer ", "HTTP/1.1"]).unwrap(), [0; 2]);
        nginx.kill().unwrap();
    }
    scene.certify("known", NAME, 0).unwrap();
    let _nginx = scene.nginx(Does::Pass).unwrap();
    wait_until("with a good certificate she is back", 60 * SECOND, || {
        is_connected(&alice)
    });
    assert_eq!(health(&alice), "[]");
    let said = refusal(&launch(&scene, "none", "missing.pem", ["--join", &link]));
    assert!(said.contains("No CA certificates were loaded"), "{said}");
}

/// Waits until `status` gives this reason, while the daemon tries to get in.
fn wait_for_trouble(daemon: &Daemon, why: &str) {
    wait_until(why, 20 * SECOND, || {
        let Output { stdout, .. } = daemon.cli(&["status", "--json"]).unwrap();
        stdout.contains(why)
    });
}

#[test]
fn nothing_leads_from_https_to_plain_http() {
    let scene = Front::new("plain").unwrap();
    scene.certify("known", NAME, 0).unwrap();
    let _nginx = scene.nginx(Does::Redirect).unwrap();
    let plain = Bytes::start(&scene.server, "tcp port 7080").unwrap();
    let redirected = launch(&scene, "alice", "known.pem", ["--server", URL]);
    wait_for_trouble(
        &redirected,
        "a redirect is not followed, so give the address that it leads to",
    );
    redirected.kill().unwrap();
    // A server that speaks http where https was asked for.
    let at_front = Bytes::start(&scene.front, "tcp port 8443").unwrap();
    let answered = launch(
        &scene,
        "bob",
        "known.pem",
        ["--server", "https://mesh.example:8443/"],
    );
    wait_for_trouble(&answered, "does not speak TLS at this port");
    let closed = launch(
        &scene,
        "carol",
        "known.pem",
        ["--server", "https://mesh.example:7080/"],
    );
    wait_for_trouble(&closed, "onnection refused");
    sleep(2 * SECOND);
    for daemon in [&answered, &closed] {
        daemon.kill().unwrap();
    }
    assert_eq!(
        at_front
            .finish(["Bearer ", "/api/v1/mesh", "my-network"])
            .unwrap(),
        [0; 3]
    );
    assert_eq!(
        plain.finish(["HTTP/1.1", "Bearer "]).unwrap(),
        [0; 2],
        "nobody went there"
    );
    assert!(scene.discovery.process.ended().unwrap().is_none());
}
