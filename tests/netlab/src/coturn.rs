//! Coturn, as a TURN server that is none of ours.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::Result;

use crate::{Host, Process, wait_until};

/// The password of its user `ann`.
pub const COTURN_PASSWORD: &str = "correct horse";

/// Starts it on the host, for a user `ann`, with nonces that are stale after 20 s. It serves UDP and TCP on port 3478, and
/// TLS on 443 if it has a certificate.
pub fn coturn(host: &Host, certificate: Option<&Certificate>) -> Result<Process> {
    coturn_with(host, certificate, &[])
}

/// As [`coturn`], with more arguments.
pub fn coturn_with(
    host: &Host,
    certificate: Option<&Certificate>,
    arguments: &[&str],
) -> Result<Process> {
    let address = host.address().to_string();
    let data = host.dir().join("turndb");
    let mut command = host.command("turnserver");
    command
        .args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech"])
        .arg(format!("--user=ann:{COTURN_PASSWORD}"))
        .args(["--realm=lab", "--stale-nonce=20", "--log-file=stdout"])
        .args(["-L", &address, "-E", &address, "-b"])
        .arg(data)
        .args(arguments);
    let mut wanted = vec![("-Hnul", format!("{address}:3478 "))];
    match certificate {
        Some(certificate) => {
            command
                .arg("--tls-listening-port=443")
                .arg(format!("--cert={}", certificate.chain.display()))
                .arg(format!("--pkey={}", certificate.key.display()));
            wanted.push(("-Hntl", format!("{address}:443 ")));
        }
        None => {
            command.arg("--no-tls");
        }
    }
    let process = host.spawn_command(command)?;
    wait_until("coturn listens", Duration::from_secs(20), || {
        for (sockets, wanted) in &wanted {
            if !host.run("ss", [*sockets])?.stdout.contains(wanted) {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    Ok(process)
}

/// A certificate for an address, and whoever signed it.
#[derive(Debug)]
pub struct Certificate {
    /// What a host must trust.
    pub authority: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// A new one, in the directory of `host`, signed by an authority of its own.
    pub fn new(host: &Host, name: &str, address: Ipv4Addr) -> Result<Self> {
        let file = |what: &str| host.dir().join(format!("{name}-{what}.pem"));
        let (authority, signer) = (file("authority"), file("signer"));
        let (chain, key, request, extension) = (
            file("chain"),
            file("key"),
            file("request"),
            file("extension"),
        );
        let line = format!(
            "new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
            $new -x509 -days 2 -subj /CN=authority -keyout {signer} -out {authority}
            $new -subj /CN={name} -keyout {key} -out {request}
            printf 'subjectAltName=IP:{address}' > {extension}
            openssl x509 -req -days 2 -in {request} -CA {authority} -CAkey {signer} -CAcreateserial -extfile {extension} -out {chain}",
            signer = signer.display(),
            authority = authority.display(),
            key = key.display(),
            request = request.display(),
            extension = extension.display(),
            chain = chain.display(),
        );
        host.sh(&line)?;
        Ok(Self {
            authority,
            chain,
            key,
        })
    }
}
