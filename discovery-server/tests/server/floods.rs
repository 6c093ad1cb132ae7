//! What do floods, slow requests and bodies without end cost the server, and those beside whoever makes them?

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use mesh_wire::discovery::{MAX_SIGNAL, ServerMessage, hello};
use reqwest::{Client, Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::harness::{DEADLINE, Events, Net, Node, Server, within};

/// The most memory that the process ever had, in KiB.
fn most_memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Somebody at another address.
fn elsewhere(server: &Server) -> Client {
    // Plain HTTP needs no certificates, but the client wants to know how it would check them.
    drop(server.request(Method::GET, "/"));
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let client = Client::builder().local_address(address).no_proxy();
    client.timeout(DEADLINE).build().unwrap()
}

/// What others' requests may take beside a flood, all but one in a hundred, on a machine of two cores that runs the flood too.
/// Without one it is a few milliseconds.
const PROMPT: Duration = Duration::from_secs(2);

#[allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]
fn assert_prompt(mut took: Vec<Duration>) {
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100 - 1]);
    println!("p50 {half:?}, p99 {most:?} of {}", took.len());
    assert!(most < PROMPT, "p50 {half:?}, p99 {most:?}");
}

async fn is_well(client: &Client, server: &Server) {
    let url = format!("http://{}/healthz", server.http);
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

/// Sends a request and reads until the server hangs up; its status and what was said.
async fn exchange(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = within(stream.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn post(more: &str) -> String {
    format!(
        "POST /api/v1/mesh/networks HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_connections_and_requests_of_one_address_leave_others_theirs() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let to = server.http;
    let over = Arc::new(AtomicBool::new(false));
    let flood = (0..60).map(|_| {
        let over = Arc::clone(&over);
        tokio::spawn(async move {
            let mut answered = 0_u32;
            let request = b"GET /api/v1/mesh/networks/home/peers HTTP/1.1\r\nhost: h\r\n\r\n";
            // Fifty at least, and until the others have all their answers.
            let mut asked = 0;
            while asked < 50 || !over.load(Relaxed) {
                asked += 1;
                let Ok(mut stream) = TcpStream::connect(to).await else {
                    continue;
                };
                // The server may close what is too much at any point.
                if stream.write_all(request).await.is_ok() {
                    let read = stream.read(&mut [0; 512]).await;
                    answered += u32::from(read.is_ok_and(|length| length > 0));
                }
            }
            answered
        })
    });
    let flood: Vec<_> = flood.collect();
    let client = elsewhere(&server);
    let mut took = Vec::new();
    for number in 0..100 {
        let since = Instant::now();
        is_well(&client, &server).await;
        let register = Node::new(number, "node").register(&net, 1);
        let request = client.post(format!("http://{to}{}", net.path("/peers")));
        let answer = request.bearer_auth(&net.token).json(&register).send().await;
        assert_eq!(answer.unwrap().status(), StatusCode::CREATED);
        took.push(since.elapsed());
    }
    // They were answered in the middle of it.
    let running = flood.iter().filter(|task| !task.is_finished()).count();
    assert!(running > 0, "the flood was over before the last of them");
    assert_prompt(took);
    over.store(true, Relaxed);
    let mut answered = 0;
    for task in flood {
        answered += within(task).await.unwrap();
    }
    assert!(answered > 1_000, "{answered}");
    assert!(most_memory(&server) < 100_000);
}

/// What looks like relayed data comes to the UDP port faster than it can be thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn a_udp_port_that_is_never_empty_leaves_others_their_time() {
    let server = Server::start();
    let over = Arc::new(AtomicBool::new(false));
    let flood = [(); 2].map(|()| {
        let (to, over) = (server.stun, Arc::clone(&over));
        std::thread::spawn(move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &4)
                .unwrap();
            let train = [0x40, 0, 0, 0].repeat(64);
            let mut sent = 0_u64;
            while !over.load(Relaxed) {
                // What does not fit the server's buffers is lost without a word.
                sent += u64::from(socket.send_to(&train, to).is_ok());
            }
            sent
        })
    });
    let mut took = Vec::new();
    for _ in 0..100 {
        let since = Instant::now();
        // A connection of its own: those that stand would be served by others.
        is_well(&elsewhere(&server), &server).await;
        took.push(since.elapsed());
    }
    over.store(true, Relaxed);
    assert_prompt(took);
    let sent: u64 = flood.map(|thread| thread.join().unwrap()).iter().sum();
    assert!(sent > 10_000, "{sent} trains are no flood");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_byte_by_byte_are_given_up_and_hold_up_nobody() {
    let server = Server::start();
    let (head, body) = (post("content-length: 1000\r\n"), "{".repeat(1_000));
    // 30 never finish their head, 30 their body.
    let slow = (0..60).map(|number| {
        let (to, head, body) = (server.http, head.clone(), body.clone());
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(to).await.unwrap();
            let (at_once, later) = match number % 2 {
                0 => ("", head + &body),
                _ => (head.as_str(), body.clone()),
            };
            stream.write_all(at_once.as_bytes()).await.unwrap();
            for byte in later.as_bytes() {
                let mut answer = [0; 512];
                tokio::select! {
                    read = stream.read(&mut answer) => match read {
                        Ok(length) => return String::from_utf8_lossy(&answer[..length]).into_owned(),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                            return String::new();
                        }
                    },
                    () = sleep(Duration::from_millis(200)) => {}
                }
                // It may have been closed meanwhile, which the next read tells.
                let _ = stream.write_all(&[*byte]).await;
            }
            panic!("all of it was taken")
        })
    });
    let slow: Vec<_> = slow.collect();
    let client = elsewhere(&server);
    let mut took = Vec::new();
    for _ in 0..100 {
        let since = Instant::now();
        is_well(&client, &server).await;
        took.push(since.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    assert!(slow.iter().any(|task| !task.is_finished()));
    assert_prompt(took);
    for (number, task) in slow.into_iter().enumerate() {
        let said = within(task).await.unwrap();
        // Who has not finished its head hears nothing or 408; who owes its body is told.
        let told =
            said.is_empty() || said.starts_with("HTTP/1.1 408 ") || said.contains("too-slow");
        assert!(told, "{number}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_a_gigabyte_and_without_end_are_refused_before_they_are_read() {
    let server = Server::start();
    let before = most_memory(&server);
    let announced = exchange(&server, &post("content-length: 1073741824\r\n")).await;
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = post("transfer-encoding: chunked\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    let endless = async {
        for _ in 0..16_000 {
            if stream.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
        panic!("a gigabyte was taken");
    };
    within(endless).await;
    for length in ["-1", "1x", "99999999999999999999999"] {
        let answer = exchange(&server, &post(&format!("content-length: {length}\r\n"))).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{length}: {answer}");
    }
    let both = "content-length: 2\r\ntransfer-encoding: chunked\r\n";
    let answer = exchange(&server, &(post(both) + "0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(most_memory(&server) - before < 32 * 1024);
    is_well(&elsewhere(&server), &server).await;
}

#[tokio::test]
async fn deep_json_and_keys_that_come_twice_are_refused() {
    let server = Server::start();
    let net = Net::new("home", "10.0.0.0/24");
    let good = serde_json::to_string(&net.create).unwrap();
    let with = |more: &str| good.replacen('{', &format!("{{{more},"), 1);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for bad in [
        with(r#""id":"other""#),
        with(&format!(r#""cidr":{deep}"#)),
        with(&format!(r#""more":{deep}"#)),
        deep.clone(),
    ] {
        let request = server.request(Method::POST, "/api/v1/mesh/networks");
        let request = request.header("content-type", "application/json").body(bad);
        let refused = crate::harness::problem(request.send().await.unwrap()).await;
        assert_eq!(
            (refused.status, refused.code.as_str()),
            (400, "malformed-json")
        );
    }
    assert_eq!(net.create_on(&server).await.status(), StatusCode::CREATED);
    let alice = Node::new(1, "alice");
    alice.join(&server, &net, 1).await;
    for bad in [
        format!(
            r#"{{"type":"signal","to":"{}","payload":{deep}}}"#,
            alice.id()
        ),
        format!(r#"{{"type":"signal","more":{deep}}}"#),
        format!(
            r#"{{"type":"signal","to":"{0}","to":"{0}","payload":""}}"#,
            alice.id()
        ),
    ] {
        let mut events = Events::open_as(&server, &net, &alice).await;
        events.send_text(bad).await;
        let (problem, code) = events.farewell().await;
        assert_eq!((problem.code.as_str(), code), ("malformed-message", 1002));
    }
}

/// Members that do not read, and one that writes them letters of the greatest length.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_members_that_do_not_read_take_little_memory() {
    const SLEEPERS: u16 = 20;
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let admin = Net {
        token: server.admin_token(),
        ..net.clone()
    };
    let (mut sleepers, mut asleep) = (Vec::new(), Vec::new());
    for number in 0..SLEEPERS {
        let node = Node::new(number, "sleeper");
        assert!(
            admin
                .post(&server, &node.register(&net, 1))
                .await
                .status()
                .is_success()
        );
        let mut events = Events::open_with(&server, &net, Some(4_096)).await;
        let nonce = events.nonce.clone();
        events.send(&hello(&node.key, &net.id, &nonce)).await;
        sleepers.push(node);
        asleep.push(events);
    }
    let before = most_memory(&server);
    let payload = "x".repeat(MAX_SIGNAL);
    let mut senders = Vec::new();
    for number in 0..20 {
        let node = Node::new(1_000 + number, "sender");
        assert!(
            admin
                .post(&server, &node.register(&net, 1))
                .await
                .status()
                .is_success()
        );
        senders.push((Events::open_as(&server, &net, &node).await, node));
    }
    let mut sent = 0;
    for to in &sleepers {
        // 64 letters of one sender are taken at once: three for each sleeper, 480 kB for one of them.
        for (events, _) in &mut senders {
            for _ in 0..3 {
                events.signal(to, &payload).await;
                sent += 1;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
    // All of them were judged when the answer to this one is there.
    for (events, _) in &mut senders {
        let nobody = Node::new(9_999, "nobody");
        events.signal(&nobody, "").await;
        let last = ServerMessage::Undeliverable { to: nobody.id() };
        events.until(|message| *message == last).await;
    }
    let grown = most_memory(&server) - before;
    println!("{sent} letters of {MAX_SIGNAL} bytes: {grown} KiB more");
    assert!(grown < 16 * 1024, "{grown} KiB");
    is_well(&elsewhere(&server), &server).await;
}
