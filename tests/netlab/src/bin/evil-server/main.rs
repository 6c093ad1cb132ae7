//! A discovery server that lies: it stands between daemons and a real one, passes on what they say, and tells one kind of
//! lie in all that it can.
//!
//! usage: `evil-server LISTEN REAL LIE [ELSEWHERE]`
//! LISTEN and REAL are ADDR:PORT, the lies are in `lie.rs`, ELSEWHERE is the ADDR:PORT that some of them point to.
//!
//! For each message that has gone out on an event connection it prints `told NODE: TYPE`, or `lied to NODE: TYPE` where that is not
//! what the real server said; for each answer of its STUN `answered STUN of ADDRESS`.

mod lie;
mod stranger;

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::Body,
    extract::{
        FromRequestParts as _, Request, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use futures::{SinkExt as _, StreamExt as _, stream::poll_fn};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_wire::problem::Problem;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest as _},
};

use lie::{BROKEN, Liar, Lie};

/// How late whatever a slow server says is.
const LATE: Duration = Duration::from_secs(5);

struct Evil {
    real: SocketAddr,
    elsewhere: SocketAddr,
    listen: SocketAddr,
    liar: Liar,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (fixed, rest) = arguments
        .split_first_chunk()
        .context("usage: evil-server LISTEN REAL LIE [ELSEWHERE]")?;
    let [listen, real, lie] = fixed;
    let elsewhere = rest.first().map_or("192.0.2.1:9", String::as_str);
    let listen = listen.parse().context("LISTEN is no address")?;
    let evil = Arc::new(Evil {
        real: real.parse().context("REAL is no address")?,
        elsewhere: elsewhere.parse().context("ELSEWHERE is no address")?,
        listen,
        liar: Liar::new(lie.parse()?),
    });
    if evil.liar.lie == Lie::WrongStun {
        let socket = UdpSocket::bind(listen).await?;
        tokio::spawn(answer_stun(socket, evil.elsewhere));
    }
    let listener = TcpListener::bind(listen).await?;
    say(&format!("ready {listen}"));
    let router = Router::new().fallback(handle).with_state(evil);
    Ok(axum::serve(listener, router).await?)
}

async fn handle(State(evil): State<Arc<Evil>>, request: Request) -> Response {
    let is_events = request.uri().path().ends_with("/events");
    let lie = evil.liar.lie;
    if lie == Lie::Slow {
        sleep(LATE).await;
    }
    let answer = if lie == Lie::Errors {
        let problem = Problem::new(500, "database", BROKEN);
        Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(problem)).into_response())
    } else if let Lie::Redirect(status) = lie {
        evil.redirect(status, &request)
    } else if let (Lie::RedirectEvents(status), true) = (lie, is_events) {
        evil.redirect(status, &request)
    } else if is_events {
        evil.events(request).await
    } else {
        evil.rest(request).await
    };
    answer.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
}

impl Evil {
    fn redirect(&self, status: u16, request: &Request) -> Result<Response> {
        let to = format!("http://{}{}", self.elsewhere, request.uri().path());
        let head = (StatusCode::from_u16(status)?, [(header::LOCATION, to)]);
        Ok(head.into_response())
    }

    async fn rest(&self, request: Request) -> Result<Response> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if self.liar.lie == Lie::HideRevocations && path.ends_with("/revocations") {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let stream = TcpStream::connect(self.real).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        let mut body = body.collect().await?.to_bytes();
        if head.status.is_success()
            && let Ok(mut value) = serde_json::from_slice::<Value>(&body)
        {
            self.liar.about_rest(&mut value);
            if self.liar.lie == Lie::WrongStun && method == Method::GET {
                value["stun_port"] = self.listen.port().into();
            }
            body = value.to_string().into();
        }
        head.headers.remove(header::CONTENT_LENGTH);
        if self.liar.lie == Lie::WrongTime {
            let date = "Thu, 01 Jan 1970 00:00:00 GMT".parse()?;
            head.headers.insert(header::DATE, date);
        }
        Ok(Response::from_parts(head, Body::from(body)))
    }

    async fn events(self: Arc<Self>, request: Request) -> Result<Response> {
        let (mut parts, _) = request.into_parts();
        let real = match self.open(&parts).await {
            Ok(real) => real,
            Err(tungstenite::Error::Http(refusal)) => {
                let (head, body) = refusal.into_parts();
                return Ok((head.status, body.unwrap_or_default()).into_response());
            }
            Err(error) => return Err(error.into()),
        };
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await?;
        Ok(upgrade.on_upgrade(move |daemon| async move {
            // Whoever hangs up first ends both.
            let _ended = self.converse(daemon, real).await;
        }))
    }

    async fn open(&self, parts: &Parts) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
        let stream = TcpStream::connect(self.real).await?;
        let url = format!("ws://{}{}", self.real, parts.uri.path());
        let mut request = url.into_client_request()?;
        copy(&parts.headers, request.headers_mut());
        let (real, _) = client_async(request, stream).await?;
        Ok(real)
    }

    async fn converse(
        &self,
        mut daemon: WebSocket,
        real: WebSocketStream<TcpStream>,
    ) -> Result<()> {
        let mut viewer = String::new();
        let mut told = 0_u32;
        let late = match self.liar.lie == Lie::Slow {
            true => LATE,
            false => Duration::ZERO,
        };
        let (mut real, said_by_real) = real.split();
        let mut said_by_real = pin!(delayed(said_by_real, late));
        loop {
            tokio::select! {
                // Behind the challenge nothing is told until it is known to whom.
                said = said_by_real.next(), if told == 0 || !viewer.is_empty() => match said.context("the real server hung up")?? {
                    tungstenite::Message::Text(text) => {
                        let (messages, line) = self.liar.about_message(&viewer, &text);
                        for message in messages {
                            daemon.send(Message::Text(message.into())).await?;
                        }
                        told += 1;
                        say(&line);
                    }
                    tungstenite::Message::Close(_) => return Ok(()),
                    tungstenite::Message::Binary(_)
                    | tungstenite::Message::Ping(_)
                    | tungstenite::Message::Pong(_)
                    | tungstenite::Message::Frame(_) => {}
                },
                said = daemon.recv() => match said.context("the daemon hung up")?? {
                    Message::Text(text) => {
                        if let Some(node) = who_says_hello(&text) {
                            viewer = node;
                        }
                        real.send(tungstenite::Message::text(text.as_str())).await?;
                    }
                    Message::Close(_) => return Ok(real.close().await?),
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
                },
            }
        }
    }
}

/// The same messages, each so much later than it came.
fn delayed<T: Send + 'static>(
    messages: impl futures::Stream<Item = T> + Send + Unpin + 'static,
    late: Duration,
) -> impl futures::Stream<Item = T> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = messages;
        while let Some(message) = messages.next().await {
            if sender.send((Instant::now() + late, message)).is_err() {
                return;
            }
        }
    });
    poll_fn(move |context| receiver.poll_recv(context)).then(|(due, message)| async move {
        sleep_until(due).await;
        message
    })
}

/// Tests wait for these lines.
#[allow(clippy::print_stdout, reason = "its output is its log")]
fn say(line: &str) {
    println!("{line}");
}

/// The node id in a member's first message.
fn who_says_hello(text: &str) -> Option<String> {
    let message: Value = serde_json::from_str(text).ok()?;
    let is_hello = message["type"] == "hello";
    message["node_id"]
        .as_str()
        .filter(|_| is_hello)
        .map(str::to_owned)
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(value) = from.get(header::AUTHORIZATION) {
        to.insert(header::AUTHORIZATION, value.clone());
    }
}

/// Tells everybody that they are seen at `mapped`.
async fn answer_stun(socket: UdpSocket, mapped: SocketAddr) -> Result<()> {
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    let mut buffer = [0; 1500];
    loop {
        let (length, source) = socket.recv_from(&mut buffer).await?;
        let SocketAddr::V4(mapped) = mapped else {
            continue;
        };
        if length < 20 {
            continue;
        }
        // RFC 8489: a success response with one XOR-MAPPED-ADDRESS.
        let mut answer = vec![1, 1, 0, 12];
        answer.extend_from_slice(&COOKIE);
        answer.extend_from_slice(&buffer[8..20]);
        answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
        let port = mapped.port().to_be_bytes();
        answer.extend(port.iter().zip(COOKIE).map(|(a, b)| a ^ b));
        let address = mapped.ip().octets();
        answer.extend(address.iter().zip(COOKIE).map(|(a, b)| a ^ b));
        socket.send_to(&answer, source).await?;
        say(&format!("answered STUN of {}", source.ip()));
    }
}
