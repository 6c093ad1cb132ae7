//! Conversations with servers of our own making: each answer is what the test says.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;

const NETWORK: &str = r#"{"id":"home","cidr":"10.100.0.0/16","network_key":"KEY","created_at":0,"peer_count":0,"stun_port":null,"public_ip":null}"#;

fn home() -> NetworkId {
    "home".parse().unwrap()
}

fn network() -> String {
    let key = mesh_wire::NodeId::from_bytes([1; 32]).to_string();
    NETWORK.replace("KEY", &key)
}

fn answer(head: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Serves one connection after the other, each with its answers, and returns the heads of all requests.
async fn serve(connections: Vec<Vec<String>>) -> (Rest, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                heads.push(head(&mut stream).await);
                // A client that has read enough hangs up.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
        heads
    });
    (Rest::new(url.parse().unwrap(), "token".to_owned()), served)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap().to_lowercase()
}

#[tokio::test]
async fn requests_share_a_connection_until_the_server_closes_it() {
    let kept = answer("200 OK", &network());
    let last = answer("200 OK\r\nconnection: close", &network());
    let (rest, served) = serve(vec![vec![kept.clone(), last], vec![kept]]).await;
    let mut conversation = rest.converse().await.unwrap();
    for _ in 0..3 {
        let network = conversation.network(&home()).await.unwrap();
        assert_eq!(network.id, home());
    }
    let heads = served.await.unwrap();
    assert_eq!(heads.len(), 3);
    for head in heads {
        assert!(
            head.starts_with("get /api/v1/mesh/networks/home http/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("\r\nauthorization: bearer token\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nhost: 127.0.0.1:"), "{head}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words_also_of_an_upgrade() {
    let body = r#"{"status":0,"code":"full","title":"no room","detail":"","fix":""}"#;
    let refusal = answer("403 Forbidden", body);
    let (rest, _served) = serve(vec![vec![refusal.clone(), refusal]]).await;
    let mut conversation = rest.converse().await.unwrap();
    let asked = conversation.network(&home()).await.unwrap_err();
    let upgraded = conversation.events(&home()).await.unwrap_err();
    for error in [asked, upgraded] {
        let ServerError::Refused(problem) = error else {
            panic!("{error}");
        };
        assert_eq!((problem.status, problem.code.as_str()), (403, "full"));
    }
}

#[tokio::test]
async fn something_else_than_a_discovery_server_is_recognised() {
    let page = answer("200 OK", "<html>");
    let moved = answer("302 Found\r\nlocation: http://127.0.0.1:1/", "");
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let (rest, _served) = serve(vec![vec![page, moved, upgraded.to_owned()]]).await;
    let mut conversation = rest.converse().await.unwrap();
    let page = conversation.network(&home()).await.unwrap_err();
    assert_eq!(
        page.to_string(),
        "answered 200 OK with something else than expected"
    );
    let moved = conversation.network(&home()).await.unwrap_err();
    assert_eq!(
        moved.to_string(),
        "answered 302 Found; a redirect is not followed, so give the address that it leads to"
    );
    let upgraded = conversation.events(&home()).await.unwrap_err();
    assert!(upgraded.to_string().contains("WebSocket"), "{upgraded}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let long = answer("200 OK", &" ".repeat(MAX_ANSWER + 1));
    let (rest, served) = serve(vec![vec![long]]).await;
    let mut conversation = rest.converse().await.unwrap();
    let error = conversation.network(&home()).await.unwrap_err();
    assert!(error.to_string().contains("longer answer"), "{error}");
    drop(conversation);
    served.await.unwrap();
}
