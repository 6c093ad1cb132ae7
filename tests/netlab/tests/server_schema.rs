//! Does the discovery server keep to the OpenAPI document that it serves? Judged by Schemathesis, which makes requests from
//! the document: sensible ones, odd ones and sequences of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use netlab::{Discovery, Host, Lab, binary};

/// Requests for each operation, of any kind and of those that are valid, which take others before them.
const EXAMPLES: &str = "25";
const VALID: &str = "10";

/// All of the document. Schemathesis leaves out the address that it has read it from, so it is given a file.
const OPERATIONS: &str = "Tested: 14";

/// `./test.sh` installs it beside the programs under test.
fn schemathesis() -> PathBuf {
    let server = binary("discovery-server").unwrap();
    let target = server.ancestors().nth(2).unwrap();
    let program = target.join("tools/schemathesis/bin/st");
    assert!(
        program.is_file(),
        "{} is missing; ./test.sh installs it",
        program.display()
    );
    program
}

/// Judges a new server with these arguments.
fn judge(lab: &str, arguments: &[&str]) -> (Lab, Host, Discovery) {
    let lab = Lab::new(lab).unwrap();
    let host = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&host).unwrap();
    let token = fs::read_to_string(discovery.data_dir().join("admin-token")).unwrap();
    let (url, token) = (discovery.url(), token.trim());
    let document = host.dir().join("openapi.json");
    let fetch = format!(
        "curl -sS -f -o {} {url}/api/v1/openapi.json",
        document.display()
    );
    host.sh(&fetch).unwrap();
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut command = host.command(schemathesis());
    command
        .arg("--config-file")
        .arg(beside.join("server_schema.toml"))
        .arg("run")
        .arg(document)
        .args(["--url", &url])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--seed", "1", "--no-color"])
        .args(arguments)
        .env("SCHEMA_SERVER", &url)
        .env("SCHEMA_ADMIN_TOKEN", token)
        .env("PYTHONPATH", beside)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if arguments.contains(&"positive") {
        command.env("SCHEMATHESIS_HOOKS", "server_schema");
    }
    let output = host.run_command(command, Duration::from_secs(180)).unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        output.stdout,
        output.stderr
    );
    assert!(output.stdout.contains(OPERATIONS), "{}", output.stdout);
    (lab, host, discovery)
}

#[test]
fn every_answer_is_as_the_document_says_whatever_is_asked() {
    // That well-formed requests are refusable is the next test's concern.
    let without = [
        "--checks",
        "all",
        "--exclude-checks",
        "positive_data_acceptance",
        "--max-examples",
        EXAMPLES,
    ];
    let (_lab, host, discovery) = judge("schema", &without);
    // It still serves, and nothing in it has failed.
    let health = host
        .sh(&format!("curl -sS -f {}/healthz", discovery.url()))
        .unwrap();
    assert!(health.stdout.contains("ok"), "{}", health.stdout);
    let log = discovery.process.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

/// `server_schema.py` signs what must be signed, and makes the network and the member that a request is about.
#[test]
fn what_the_document_calls_valid_is_done_when_it_is_signed_and_about_what_exists() {
    let checks = "positive_data_acceptance,not_a_server_error,status_code_conformance,\
                  content_type_conformance,response_schema_conformance";
    let positive = ["--mode", "positive", "--checks", checks];
    let phases = ["--phases", "coverage,fuzzing", "--max-examples", VALID];
    let (_lab, host, discovery) = judge("valid", &[&positive[..], &phases].concat());
    let metrics = host
        .sh(&format!("curl -sS -f {}/metrics", discovery.url()))
        .unwrap();
    for status in [101, 200, 201, 204] {
        let line = format!("discovery_http_requests_total{{status=\"{status}\"}}");
        assert!(metrics.stdout.contains(&line), "{}", metrics.stdout);
    }
}
