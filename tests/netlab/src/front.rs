//! A discovery server behind nginx that speaks https, and what may stand between a member and it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use crate::{Capture, Discovery, Host, Lab, Process, binary, wait_until};

const LIMIT: Duration = Duration::from_secs(10);

/// Two authorities, a discovery server, and a host in front of it that has the name [`Front::NAME`].
#[derive(Debug)]
pub struct Front {
    pub front: Host,
    pub server: Host,
    pub discovery: Discovery,
    /// Last, so that it is dropped last.
    pub lab: Lab,
}

/// What nginx does on port 443.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    Pass,
    Redirect,
}

impl Front {
    pub const NAME: &str = "mesh.example";
    pub const URL: &str = "https://mesh.example/";

    /// Without nginx yet. The authorities are in the files `known.pem` and `unknown.pem`.
    pub fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let server = lab.internet().public_host("server")?;
        let front = lab.internet().public_host("front")?;
        let addresses = [&server, &front].map(|host| host.address().to_string());
        // Members reach STUN and TURN at the server itself.
        let told = [
            "--public-ip",
            &addresses[0],
            "--trusted-proxy",
            &addresses[1],
        ];
        let discovery = Discovery::start_with(&server, &told)?;
        let scene = Self {
            front,
            server,
            discovery,
            lab,
        };
        for authority in ["known", "unknown"] {
            scene.openssl(&format!(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem"
            ))?;
        }
        Ok(scene)
    }

    /// A line in the lab's directory.
    fn openssl(&self, line: &str) -> Result<()> {
        let directory = self.lab.dir().display();
        let line = format!("{{ cd {directory} && {line} ; }} 2>&1");
        self.front.sh(&line).map(drop)
    }

    /// A file of the lab.
    pub fn file(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    /// nginx has from now on, or from its next start, a certificate of this authority for this name, made so long ago.
    pub fn certify(&self, authority: &str, name: &str, days_ago: u32) -> Result<()> {
        self.openssl(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=front -keyout front.key -out front.csr",
        )?;
        fs::write(self.file("names"), format!("subjectAltName=DNS:{name}\n"))?;
        self.openssl(&format!(
            "faketime -f -{days_ago}d openssl x509 -req -in front.csr -CA {authority}.pem -CAkey {authority}.key \
             -CAcreateserial -days 5 -extfile names -out front.pem"
        ))
    }

    /// Starts nginx, with the certificate there is, and waits until it listens.
    pub fn nginx(&self, does: Does) -> Result<Process> {
        let (directory, name) = (self.lab.dir().display(), Self::NAME);
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
             server {{ listen 443 ssl; server_name {name}; ssl_certificate {directory}/front.pem; \
             ssl_certificate_key {directory}/front.key; location / {{ {what} }} }}\n\
             server {{ listen 8443; location / {{ return 404; }} }} }}\n"
        );
        let file = self.file("nginx.conf");
        fs::write(&file, text)?;
        let file = file.to_str().context("the lab's paths are text")?;
        let process = self.front.spawn("nginx", ["-e", "stderr", "-c", file])?;
        wait_until("nginx listens", LIMIT, || {
            let listening = self.front.run("ss", ["-Hntl"])?.stdout;
            Ok([":443 ", ":8443 "]
                .iter()
                .all(|port| listening.contains(port)))
        })?;
        Ok(process)
    }

    /// A `meshd` on a machine that trusts the authority of this file, after this line of shell. The machine does not know
    /// [`Self::NAME`].
    pub fn program(&self, host: &Host, trusted: &str, line: &str) -> Result<PathBuf> {
        let (hosts, script) = (hosts_file(host), host.dir().join("meshd"));
        fs::write(&hosts, "")?;
        let (meshd, trusted) = (binary("meshd")?, self.file(trusted));
        let [hosts, meshd, trusted] = [&hosts, &meshd, &trusted].map(|path| path.display());
        let text = format!(
            "#!/bin/sh\nunset SSL_CERT_DIR\nexport SSL_CERT_FILE={trusted}\n{line}\n\
             exec unshare -m sh -c 'mount --bind {hosts} /etc/hosts && exec \"$@\"' sh {meshd} \"$@\"\n"
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    /// What is started on this host from now on by [`Self::program`] or [`tinyproxy`] knows [`Self::NAME`].
    pub fn name_on(&self, host: &Host) -> Result<()> {
        let line = format!("{} {}\n", self.front.address(), Self::NAME);
        Ok(fs::write(hosts_file(host), line)?)
    }
}

fn hosts_file(host: &Host) -> PathBuf {
    host.dir().join("hosts")
}

/// Starts an HTTP proxy on the host, on port 8888, that makes tunnels to port 443 for the user `ann`, whose password is
/// `hunter2`.
pub fn tinyproxy(host: &Host) -> Result<Process> {
    let file = host.dir().join("tinyproxy.conf");
    let text = "Port 8888\nTimeout 600\nMaxClients 50\nLogLevel Connect\nBasicAuth ann hunter2\nConnectPort 443\n";
    fs::write(&file, text)?;
    let (hosts, file) = (hosts_file(host), file.display().to_string());
    let line = format!(
        "mount --bind {} /etc/hosts && exec tinyproxy -d -c {file}",
        hosts.display()
    );
    let process = host.spawn("unshare", ["-m", "sh", "-c", &line])?;
    wait_until("the proxy listens", LIMIT, || {
        Ok(host.run("ss", ["-Hntl"])?.stdout.contains(":8888 "))
    })?;
    Ok(process)
}

/// Everything that passed the device, byte by byte.
#[derive(Debug)]
pub struct Bytes(Capture, PathBuf);

impl Bytes {
    /// Begins to look at what a filter lets through.
    pub fn start(host: &Host, filter: &str) -> Result<Self> {
        let capture = Capture::start(host, "eth0", "inout", filter)?;
        Ok(Self(capture, host.dir().join("eth0-inout.pcap")))
    }

    /// How often each of these was there.
    pub fn finish<const N: usize>(self, texts: [&str; N]) -> Result<[usize; N]> {
        self.0.finish("", 0)?;
        let bytes = fs::read(&self.1)?;
        Ok(texts.map(|text| count(&bytes, text)))
    }
}

fn count(bytes: &[u8], text: &str) -> usize {
    let windows = bytes.windows(text.len());
    windows.filter(|at| *at == text.as_bytes()).count()
}
