//! Who gets in, and what does the server give away?

use mesh_wire::signal::Signal;
use reqwest::{Method, StatusCode};
use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest as _};

use crate::harness::{Events, Net, Node, Server, problem, within};

#[tokio::test]
async fn a_wrong_token_learns_nothing_of_what_exists() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let other = Net::on(&server, "other", "10.100.0.0/24").await;
    let node = Node::new(1, "alice").id();
    for (method, rest) in [
        (Method::GET, String::new()),
        (Method::GET, "/peers".to_owned()),
        (Method::GET, "/events".to_owned()),
        (Method::DELETE, format!("/peers/{node}")),
    ] {
        let mut answers = Vec::new();
        // Existing and not existing; of another network, made up, empty and not given.
        for name in ["home", "missing", "No_Name"] {
            for token in [Some(other.token.as_str()), Some("x"), Some(""), None] {
                let path = format!("/api/v1/mesh/networks/{name}{rest}");
                let mut request = server.request(method.clone(), &path);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
                assert_eq!(answer.headers()["www-authenticate"], "Bearer");
                let mut headers = answer.headers().clone();
                headers.remove("date");
                answers.push((format!("{headers:?}"), answer.text().await.unwrap()));
            }
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
    let admin = server.admin_token();
    let missing = server.get("/api/v1/mesh/networks/missing", &admin).await;
    assert_eq!(problem(missing).await.code, "no-such-network");
    let found = server.get(&net.path(""), &admin).await;
    assert_eq!(found.status(), StatusCode::OK);
}

#[tokio::test]
async fn listing_and_deleting_networks_is_for_the_administrator() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    for token in [net.token.as_str(), "", "wrong"] {
        let list = server.get("/api/v1/mesh/networks", token).await;
        assert_eq!(list.status(), StatusCode::UNAUTHORIZED);
        let delete = server
            .request(Method::DELETE, &net.path(""))
            .bearer_auth(token);
        assert_eq!(
            delete.send().await.unwrap().status(),
            StatusCode::UNAUTHORIZED
        );
    }
    net.directory(&server).await;
}

#[tokio::test]
async fn a_token_in_the_url_opens_nothing() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    for key in ["token", "access_token", "authorization"] {
        let path = net.path(&format!("/events?{key}={}", net.token));
        let request = format!("ws://{}{path}", server.http)
            .into_client_request()
            .unwrap();
        let stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
        let refused = within(tokio_tungstenite::client_async(request, stream)).await;
        let Err(Error::Http(answer)) = refused else {
            panic!("let in with {key} in the URL");
        };
        assert_eq!(answer.status(), 401);
    }
}

#[tokio::test]
async fn one_address_creates_only_so_many_networks() {
    let server = Server::start();
    let mut statuses = Vec::new();
    for number in 0..25 {
        let net = Net::new(&format!("net-{number}"), "10.100.0.0/24");
        statuses.push(net.create_on(&server).await.status());
    }
    assert!(
        statuses[..20]
            .iter()
            .all(|status| *status == StatusCode::CREATED)
    );
    assert!(
        statuses[20..].contains(&StatusCode::TOO_MANY_REQUESTS),
        "{statuses:?}"
    );
    let net = Net::new("by-admin", "10.100.0.0/24");
    let request = server.request(Method::POST, "/api/v1/mesh/networks");
    let request = request.bearer_auth(server.admin_token()).json(&net.create);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn no_secret_is_logged_even_at_trace_level() {
    for format in ["text", "json"] {
        no_secret_is_logged_as(format).await;
    }
}

async fn no_secret_is_logged_as(format: &str) {
    let server = Server::start_with(&["--log-format", format]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    alice.join(&server, &net, 1).await;
    bob.join(&server, &net, 1).await;
    let admin = server.admin_token();
    server.get("/api/v1/mesh/networks", &admin).await;
    server
        .get(&net.path(""), "a-wrong-token-that-someone-tried")
        .await;
    let signal = Signal {
        ufrag: "user".into(),
        pwd: "PasswordOfTheIceAgent0".into(),
        remote_ufrag: None,
        candidates: vec![],
    };
    let mut from = Events::open_as(&server, &net, &alice).await;
    let mut to = Events::open_as(&server, &net, &bob).await;
    from.signal(&bob, &serde_json::to_string(&signal).unwrap())
        .await;
    to.until(|message| matches!(message, mesh_wire::discovery::ServerMessage::Signal { .. }))
        .await;
    let log = server.log();
    // The log is there and detailed, or its silence would prove nothing.
    assert!(
        log.contains("DEBUG") && log.contains("/api/v1/mesh/networks/home"),
        "{log}"
    );
    for secret in [
        admin.as_str(),
        &net.token,
        "a-wrong-token-that-someone-tried",
        "PasswordOfTheIceAgent0",
        &to.nonce,
    ] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn the_join_page_is_the_same_for_any_name_and_runs_nothing() {
    let server = Server::start();
    Net::on(&server, "home", "10.100.0.0/24").await;
    let mut pages = Vec::new();
    for name in ["home", "gone"] {
        let answer = server.get(&format!("/join/{name}?key=abc"), "").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("script"),
            "{policy}"
        );
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap()
            .to_owned();
        let page = answer.text().await.unwrap();
        assert!(page.contains(&format!("<style nonce=\"{nonce}\">")));
        assert!(page.contains("meshd up --join '") && !page.contains("<script"));
        pages.push(page.replace(&nonce, "").replace(name, ""));
    }
    assert_eq!(pages[0], pages[1]);
    let bad = server.get("/join/%3Cscript%3E", "").await;
    assert_eq!(bad.status(), StatusCode::NOT_FOUND);
    assert!(!bad.text().await.unwrap().contains("<script"));
}

#[tokio::test]
async fn an_admin_token_is_replaced_while_the_server_runs_and_both_hold_meanwhile() {
    let server = Server::start();
    let file = server.data.join("admin-token");
    let old = server.admin_token();
    let new = "the-new-token-of-the-administrator";
    let status = async |token: &str| {
        let answer = server.get("/api/v1/mesh/networks", token).await;
        answer.status()
    };
    let until = async |token: &str, wanted: StatusCode| {
        while status(token).await != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    std::fs::write(&file, format!("{new}\n{old}\n")).unwrap();
    within(until(new, StatusCode::OK)).await;
    assert_eq!(status(&old).await, StatusCode::OK);
    // A file that is no good takes nobody's right.
    std::fs::write(&file, "short\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    assert_eq!(status(new).await, StatusCode::OK);
    std::fs::write(&file, format!("{new}\n")).unwrap();
    within(until(&old, StatusCode::UNAUTHORIZED)).await;
    assert_eq!(status(new).await, StatusCode::OK);
}
