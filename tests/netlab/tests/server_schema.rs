//! Does the discovery server keep to the OpenAPI document that it serves? Judged by Schemathesis, which makes requests from
//! the document: sensible ones, odd ones and sequences of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf, time::Duration};

use netlab::{Discovery, Lab, binary};

/// Requests for each operation.
const EXAMPLES: &str = "25";

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

#[test]
fn every_answer_is_as_the_document_says_whatever_is_asked() {
    let lab = Lab::new("schema").unwrap();
    let host = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&host).unwrap();
    let token = fs::read_to_string(discovery.data_dir().join("admin-token")).unwrap();
    let mut command = host.command(schemathesis());
    command
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", discovery.url()))
        .args([
            "--header",
            &format!("Authorization: Bearer {}", token.trim()),
        ])
        // What a schema cannot say, such as that a record must be signed, makes well-formed requests refusable.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args(["--max-examples", EXAMPLES, "--seed", "1", "--no-color"]);
    let output = host.run_command(command, Duration::from_secs(180)).unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        output.stdout,
        output.stderr
    );
    assert!(output.stdout.contains("12/12"), "{}", output.stdout);
    // It still serves, and nothing in it has failed.
    let health = host
        .sh(&format!("curl -sS -f {}/healthz", discovery.url()))
        .unwrap();
    assert!(health.stdout.contains("ok"), "{}", health.stdout);
    let log = discovery.process.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}
