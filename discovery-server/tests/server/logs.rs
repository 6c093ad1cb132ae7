//! Can a machine read the log?

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::Value;

use crate::harness::{BINARY, Events, Net, Node, Server};

/// Each line as an object; a line that is none fails the test.
fn lines(log: &str) -> Vec<Value> {
    assert!(log.ends_with('\n'), "{log}");
    let parsed = log.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for text in ["timestamp", "level", "target"] {
            assert!(line[text].is_string(), "no {text} in {line}");
        }
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(
            timestamp.starts_with("20") && timestamp.contains('T') && timestamp.ends_with('Z'),
            "{line}"
        );
        let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
        assert!(levels.iter().any(|level| line["level"] == *level), "{line}");
        assert!(line["fields"].is_object(), "{line}");
        line
    });
    parsed.collect()
}

#[tokio::test]
async fn every_line_of_a_json_log_is_an_object_with_its_fields() {
    let mut server = Server::start_with(&["--log-format", "json"]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let alice = Node::new(1, "alice");
    alice.join(&server, &net, 1).await;
    drop(Events::open_as(&server, &net, &alice).await);
    // What a stranger writes stays within its string.
    let path = "/%0A%7B%22level%22:%22ERROR%22%7D\"'}";
    let stranger = server.request(Method::GET, path).send().await.unwrap();
    assert_eq!(stranger.status(), 404);
    server.stop();
    let lines = lines(&server.log());
    let answered = |path: &str, status: u16| {
        lines.iter().any(|line| {
            let fields = &line["fields"];
            line["level"] == "DEBUG"
                && line["target"] == "discovery_server::http"
                && fields["message"] == "answered"
                && fields["path"] == path
                && fields["status"] == status
        })
    };
    assert!(answered("/api/v1/mesh/networks", 201), "{lines:?}");
    assert!(answered("/%0A%7B%22level%22:%22ERROR%22%7D%22'%7D", 404));
    assert!(lines.iter().all(|line| line["level"] != "ERROR"));
}

#[test]
fn a_start_that_fails_is_an_object_too() {
    let directory = tempfile::tempdir().unwrap();
    let fail = |format: &str, levels: &str| {
        let output = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--stun-listen", "127.0.0.1:0"])
            .args(["--admin-token-file", "/nowhere/token"])
            .env("DISCOVERY_SERVER_DATA_DIR", directory.path())
            .env("DISCOVERY_SERVER_LOG_FORMAT", format)
            .env("RUST_LOG", levels)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), error)
    };
    // Also where the levels that are asked for leave errors out.
    for levels in ["info", "off"] {
        let (code, error) = fail("json", levels);
        assert_eq!(code, 1);
        let lines = lines(&error);
        let last = lines.last().unwrap();
        assert_eq!(last["level"], "ERROR", "{last}");
        let message = last["fields"]["message"].as_str().unwrap();
        for words in ["/nowhere/token", "why: ", "fix: "] {
            assert!(message.contains(words), "{message}");
        }
        assert!(fail("text", levels).1.contains("\n  fix: "));
    }
    let (code, error) = fail("xml", "info");
    assert_eq!(code, 2);
    assert!(error.contains("text") && error.contains("json"), "{error}");
}
