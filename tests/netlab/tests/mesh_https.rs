//! Does a mesh work whose discovery server stands behind nginx and is reached by https, and is everything refused that
//! does not prove to be that server?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, thread::sleep, time::Duration};

use netlab::{Capture, Daemon, Discovery, Host, Lab, Nat, Output, Process, binary};
use nix::sys::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "mesh.example";
const URL: &str = "https://mesh.example/";

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap()
}

/// An authority, a discovery server, and a host in front of it that has the name [`NAME`].
struct Scene {
    front: Host,
    server: Host,
    discovery: Discovery,
    lab: Lab,
}

/// What nginx does on port 443.
#[derive(Clone, Copy)]
enum Does {
    Pass,
    Redirect,
}

impl Scene {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let [server, front] =
            ["server", "front"].map(|name| lab.internet().public_host(name).unwrap());
        let addresses = [&server, &front].map(|host| host.address().to_string());
        // Members reach STUN and TURN at the server itself.
        let told = [
            "--public-ip",
            &addresses[0],
            "--trusted-proxy",
            &addresses[1],
        ];
        let discovery = Discovery::start_with(&server, &told).unwrap();
        let scene = Self {
            front,
            server,
            discovery,
            lab,
        };
        for authority in ["known", "unknown"] {
            scene.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem"
            ));
        }
        scene
    }

    /// `openssl` in the lab's directory.
    fn openssl(&self, arguments: &str) {
        let directory = self.lab.dir().display();
        let line = format!("cd {directory} && {arguments}");
        let line = match arguments.starts_with("faketime") {
            true => line,
            false => format!("cd {directory} && openssl {arguments}"),
        };
        self.front.sh(&format!("{{ {line} ; }} 2>&1")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    /// nginx has from now on, or from its next start, a certificate of this authority for this name, made so long ago.
    fn certify(&self, authority: &str, name: &str, days_ago: u32) {
        self.openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=front -keyout front.key -out front.csr",
        );
        fs::write(self.file("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
        self.openssl(&format!(
            "faketime -f -{days_ago}d openssl x509 -req -in front.csr -CA {authority}.pem -CAkey {authority}.key \
             -CAcreateserial -days 5 -extfile names -out front.pem"
        ));
    }

    fn nginx(&self, does: Does) -> Process {
        let directory = self.lab.dir().display();
        let server = self.server.address();
        let what = match does {
            Does::Pass => format!(
                "proxy_pass http://{server}:7080; proxy_http_version 1.1; proxy_set_header Host $host; \
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; \
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
            ),
            Does::Redirect => format!("return 301 http://{server}:7080$request_uri;"),
        };
        let text = format!(
            "daemon off; user root; pid {directory}/nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; \
             map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
             server {{ listen 443 ssl; server_name {NAME}; ssl_certificate {directory}/front.pem; \
             ssl_certificate_key {directory}/front.key; location / {{ {what} }} }}\n\
             server {{ listen 8443; location / {{ return 404; }} }} }}\n"
        );
        let file = self.file("nginx.conf");
        fs::write(&file, text).unwrap();
        let process = self
            .front
            .spawn("nginx", ["-e", "stderr", "-c", file.to_str().unwrap()])
            .unwrap();
        wait_until("nginx listens", 10 * SECOND, || {
            let listening = self.front.run("ss", ["-Hntl"]).unwrap().stdout;
            [":443 ", ":8443 "]
                .iter()
                .all(|port| listening.contains(port))
        });
        process
    }

    fn home(&self, name: &str) -> Host {
        let home = self
            .lab
            .internet()
            .home(&format!("h{name}"), Nat::Symmetric);
        home.unwrap().host(name).unwrap()
    }

    /// A `meshd` on a machine that knows [`NAME`], and trusts the authority of this file.
    fn program(&self, host: &Host, trusted: &str) -> PathBuf {
        let (hosts, script) = (host.dir().join("hosts"), host.dir().join("meshd"));
        fs::write(&hosts, format!("{} {NAME}\n", self.front.address())).unwrap();
        let (meshd, trusted) = (binary("meshd").unwrap(), self.file(trusted));
        let [hosts, meshd, trusted] = [&hosts, &meshd, &trusted].map(|path| path.display());
        let text = format!(
            "#!/bin/sh\nunset SSL_CERT_DIR\nexport SSL_CERT_FILE={trusted}\nexec unshare -m sh -c 'mount --bind {hosts} /etc/hosts && exec \"$@\"' sh {meshd} \"$@\"\n"
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    fn launch(&self, name: &str, trusted: &str, how: [&str; 2]) -> Daemon {
        let host = self.home(name);
        let program = self.program(&host, trusted);
        Daemon::launch_program(&program, &host, &[&how[..], &["--name", name]].concat()).unwrap()
    }

    fn up(&self, name: &str, how: [&str; 2]) -> Daemon {
        let mut daemon = self.launch(name, "known.pem", how);
        daemon.wait_ready().unwrap();
        daemon
    }
}

/// Everything that passed the device, byte by byte.
struct Bytes(Capture, PathBuf);

impl Bytes {
    fn start(host: &Host, filter: &str) -> Self {
        let capture = Capture::start(host, "eth0", "inout", filter).unwrap();
        Self(capture, host.dir().join("eth0-inout.pcap"))
    }

    /// How often each of these was there.
    fn finish<const N: usize>(self, texts: [&str; N]) -> [usize; N] {
        self.0.finish("", 0).unwrap();
        let bytes = fs::read(&self.1).unwrap();
        texts.map(|text| {
            bytes
                .windows(text.len())
                .filter(|at| *at == text.as_bytes())
                .count()
        })
    }
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
fn create(scene: &Scene, from: &Host, id: usize, more: &str) -> String {
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
    let scene = Scene::new("https");
    scene.certify("known", NAME, 0);
    let nginx = scene.nginx(Does::Pass);
    let outside = Bytes::start(&scene.front, "tcp port 443");
    let inside = Bytes::start(&scene.server, "tcp port 7080");
    let alice = scene.up("alice", ["--server", URL]);
    let link = alice.join_link().unwrap();
    assert!(link.starts_with(URL), "{link}");
    let bob = scene.up("bob", ["--join", &link]);
    // Both behind symmetric NATs: the relay was found at its own address.
    alice.first_echo(&bob, 10 * SECOND).unwrap();
    wait_until("it is told", 3 * SECOND, || {
        bob.peer("alice").unwrap()["path"] == "turn"
    });

    let ping = alice
        .host()
        .spawn("ping", ["-n", "-i", "0.2", &bob.virtual_ip])
        .unwrap();
    nginx.kill().unwrap();
    wait_until("both notice", 10 * SECOND, || {
        !is_connected(&alice) && !is_connected(&bob)
    });
    let nginx = scene.nginx(Does::Pass);
    let took = wait_until("both are back", 60 * SECOND, || {
        is_connected(&alice) && is_connected(&bob)
    });
    println!("back {:.1} s after nginx", took.as_secs_f64());
    ping.signal(Signal::SIGINT).unwrap();
    ping.wait(5 * SECOND).unwrap();
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    let link = alice.ask(&["invite"]).unwrap();
    let carol = scene.up("carol", ["--join", link.trim()]);
    carol.first_echo(&bob, 10 * SECOND).unwrap();

    let secrets = ["Bearer ", "/api/v1/mesh", "my-network", "HTTP/1.1"];
    assert_eq!(outside.finish(secrets), [0; 4], "what TLS shall hide");
    let plain = inside.finish(secrets);
    assert!(
        plain.iter().all(|times| *times > 0),
        "the search finds it: {plain:?}"
    );
    drop(nginx);
}

#[test]
fn plain_http_over_the_internet_is_noted_and_https_and_plain_http_at_home_are_not() {
    let scene = Scene::new("plainnote");
    scene.certify("known", NAME, 0);
    let _nginx = scene.nginx(Does::Pass);
    let plain = format!("http://{}:7080/", scene.server.address());
    let alice = scene.up("alice", ["--server", &plain]);
    let notes = |daemon: &Daemon| daemon.status().unwrap()["notes"].clone();
    let noted = notes(&alice);
    assert_eq!(noted[0]["code"], "server-plain-http", "{noted}");
    assert!(noted[0]["title"].as_str().unwrap().contains(&plain));
    assert_eq!(health(&alice), "[]");
    let shown = alice.ask(&["status"]).unwrap();
    let said = "is reached over plain http";
    assert!(shown.contains("note: ") && shown.contains(said), "{shown}");
    let link = alice.join_link().unwrap();
    let bob = scene.up("bob", ["--join", &link]);
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
    let scene = Scene::new("clients");
    scene.certify("known", NAME, 0);
    let _nginx = scene.nginx(Does::Pass);
    let [eager, other] = ["eager", "other"].map(|name| scene.home(name));
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
    let codes = scene.home("direct").sh(&direct).unwrap().stdout;
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
    let scene = Scene::new("untrusted");
    scene.certify("known", NAME, 0);
    let nginx = scene.nginx(Does::Pass);
    let alice = scene.up("alice", ["--server", URL]);
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
        scene.certify(authority, name, days_ago);
        let nginx = scene.nginx(Does::Pass);
        let heard = Bytes::start(&scene.front, "tcp port 443");
        let passed_on = Bytes::start(&scene.server, "tcp port 7080");
        let said = refusal(&scene.launch(&format!("b{number}"), "known.pem", ["--join", &link]));
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
        assert_eq!(
            heard.finish(["Bearer ", "/api/v1/mesh", "my-network"]),
            [0; 3]
        );
        assert_eq!(passed_on.finish(["Bearer ", "HTTP/1.1"]), [0; 2]);
        nginx.kill().unwrap();
    }
    scene.certify("known", NAME, 0);
    let _nginx = scene.nginx(Does::Pass);
    wait_until("with a good certificate she is back", 60 * SECOND, || {
        is_connected(&alice)
    });
    assert_eq!(health(&alice), "[]");
    let said = refusal(&scene.launch("none", "missing.pem", ["--join", &link]));
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
    let scene = Scene::new("plain");
    scene.certify("known", NAME, 0);
    let _nginx = scene.nginx(Does::Redirect);
    let plain = Bytes::start(&scene.server, "tcp port 7080");
    let redirected = scene.launch("alice", "known.pem", ["--server", URL]);
    wait_for_trouble(
        &redirected,
        "a redirect is not followed, so give the address that it leads to",
    );
    redirected.kill().unwrap();
    // A server that speaks http where https was asked for.
    let at_front = Bytes::start(&scene.front, "tcp port 8443");
    let answered = scene.launch(
        "bob",
        "known.pem",
        ["--server", "https://mesh.example:8443/"],
    );
    wait_for_trouble(&answered, "does not speak TLS at this port");
    let closed = scene.launch(
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
        at_front.finish(["Bearer ", "/api/v1/mesh", "my-network"]),
        [0; 3]
    );
    assert_eq!(
        plain.finish(["HTTP/1.1", "Bearer "]),
        [0; 2],
        "nobody went there"
    );
    assert!(scene.discovery.process.ended().unwrap().is_none());
}
