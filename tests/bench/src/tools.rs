//! Which programs does a run need, where are they, and how are missing ones installed?

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::contestant::{Contestant, Kind, WireGuard};
use crate::say;

/// Program and Debian package of what every run needs.
const ALWAYS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("ethtool", "ethtool"),
    ("unshare", "util-linux"),
];
const STRACE: (&str, &str) = ("strace", "strace");
const WIREGUARD_GO: (&str, &str) = ("wireguard-go", "wireguard-go");
/// Since then wireguard-go has carried super-packets through TUN and UDP.
const WIREGUARD_GO_OFFLOAD: u32 = 20_231_211;

/// The programs of a run, all there.
#[derive(Debug)]
pub(crate) struct Tools {
    /// `target/bench`: what this program keeps between runs.
    directory: PathBuf,
    /// Program or contestant, and the version that it prints.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Tools {
    /// Installs what is missing and builds meshd.
    ///
    /// # Errors
    /// Names what cannot be had, and what was tried.
    pub(crate) fn install(contestants: &[Contestant], strace: bool, meshd: bool) -> Result<Self> {
        let mut tools = Self {
            directory: directory()?,
            versions: BTreeMap::new(),
        };
        for (program, package) in ALWAYS.into_iter().chain(strace.then_some(STRACE)) {
            apt_get(program, package)?;
        }
        tools.note("iperf3", Path::new("iperf3"))?;
        let mut build = meshd;
        for contestant in contestants {
            match &contestant.kind {
                Kind::Bare => {}
                Kind::Meshd(variant) => match &variant.build {
                    Some(build) => tools.note(&contestant.name, &build.join("meshd"))?,
                    None => build = true,
                },
                Kind::WireGuard(which) => tools.install_wireguard(*which).with_context(|| {
                    format!(
                        "cannot have the contestant {0}. Leave it out with --peers, without {0} \
                         in the list",
                        contestant.name
                    )
                })?,
            }
        }
        if build {
            build_meshd()?;
            tools.note("meshd", &netlab::binary("meshd")?)?;
        }
        Ok(tools)
    }

    /// The daemon of a contestant.
    pub(crate) fn wireguard(&self, which: WireGuard) -> PathBuf {
        match which {
            WireGuard::Gotatun => self.installed("gotatun"),
            WireGuard::Boringtun => self.installed("boringtun-cli"),
            WireGuard::Go => PathBuf::from(WIREGUARD_GO.0),
        }
    }

    /// What a reader of the tables has to know of the versions.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let version = self.versions.get("wireguard-go");
        let old = version.filter(|it| released(it).is_none_or(|day| day < WIREGUARD_GO_OFFLOAD));
        old.map(|version| {
            format!(
                "wireguard-go is the distribution's package, {version}: it is old. Its releases \
                 since the end of 2023 carry super-packets and are several times as fast; \
                 nothing here can be said of those."
            )
        })
        .into_iter()
        .collect()
    }

    /// `target/bench`
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn install_wireguard(&mut self, which: WireGuard) -> Result<()> {
        let name = match which {
            WireGuard::Gotatun => {
                self.cargo_install("gotatun", "gotatun-cli")?;
                "gotatun"
            }
            WireGuard::Boringtun => {
                self.cargo_install("boringtun-cli", "boringtun-cli")?;
                "boringtun"
            }
            WireGuard::Go => {
                apt_get(WIREGUARD_GO.0, WIREGUARD_GO.1)?;
                "wireguard-go"
            }
        };
        self.note(name, &self.wireguard(which))
    }

    fn installed(&self, program: &str) -> PathBuf {
        self.directory.join("tools/bin").join(program)
    }

    fn cargo_install(&self, program: &str, package: &str) -> Result<()> {
        if self.installed(program).is_file() {
            return Ok(());
        }
        let mut command = cargo();
        command
            .args(["install", "--locked", package, "--root"])
            .arg(self.directory.join("tools"))
            .arg("--target-dir")
            .arg(self.directory.join("build"));
        run(command)?;
        let path = self.installed(program);
        ensure!(path.is_file(), "{} was not installed", path.display());
        Ok(())
    }

    fn note(&mut self, name: &str, program: &Path) -> Result<()> {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {} --version", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find(|line| !line.trim().is_empty());
        let version = version.with_context(|| {
            let program = program.display();
            format!("{program} --version printed nothing ({})", output.status)
        })?;
        self.versions
            .insert(name.to_owned(), version.trim().to_owned());
        Ok(())
    }
}

/// The root of this workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `bench` beside the profile's directory, in which this program is.
fn directory() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot find the path of this program")?;
    let target = exe.ancestors().nth(2);
    let target = target.with_context(|| format!("{} is in no directory", exe.display()))?;
    Ok(target.join("bench"))
}

fn build_meshd() -> Result<()> {
    // Whoever names other programs wants those.
    if env::var_os("NETLAB_BIN_DIR").is_some() {
        return Ok(());
    }
    let mut command = cargo();
    // The whole workspace, as for users: with fewer packages libraries have fewer features.
    command
        .current_dir(workspace())
        .args(["build", "--release", "--workspace"]);
    run(command)
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` describes this package to this program; build scripts that look at such
    // variables would take a nested build for another one and start from nothing.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn apt_get(program: &str, package: &str) -> Result<()> {
    if on_path(program) {
        return Ok(());
    }
    let install = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args([
            "install",
            "-q",
            "-y",
            "--no-install-recommends",
            package,
        ]);
        run(command)
    };
    let installed = install().or_else(|_| {
        let mut update = Command::new("apt-get");
        update.args(["update", "-q"]);
        run(update).and_then(|()| install())
    });
    installed.with_context(|| {
        format!(
            "the program {program} is missing, and its package {package} cannot be installed \
             (the name is Debian's). Fix: install it with this system's package manager"
        )
    })?;
    ensure!(
        on_path(program),
        "the package {package} is installed, but {program} is not in the PATH"
    );
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Runs a command that must succeed; what it prints goes to standard error.
fn run(mut command: Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    say(&mut std::io::stderr(), &shown)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run: {shown}"))?;
    std::io::stderr().flush()?;
    if !status.success() {
        bail!("this failed ({status}): {shown}");
    }
    Ok(())
}

/// The day in a version such as `wireguard-go v0.0.20220316`.
fn released(version: &str) -> Option<u32> {
    let digits = version.rsplit('.').next()?;
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    (digits.len() == 8).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(version: &str) -> usize {
        let versions = [("wireguard-go".to_owned(), version.to_owned())];
        let tools = Tools {
            directory: PathBuf::new(),
            versions: BTreeMap::from(versions),
        };
        tools.remarks().len()
    }

    #[test]
    fn an_old_wireguard_go_is_called_old() {
        assert_eq!(remarks("wireguard-go v0.0.20220316"), 1);
        assert_eq!(remarks("wireguard-go v0.0.20250522"), 0);
        assert_eq!(remarks("wireguard-go of an unknown day"), 1);
    }

    #[test]
    fn a_missing_program_names_its_package_and_what_was_tried() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program"));
        let error = run(Command::new("/no/such/program")).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"));
    }
}
