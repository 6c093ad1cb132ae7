//! On which machine, and of which source, were the figures made?

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::scene::CONGESTION;
use crate::tools::workspace;

/// What a figure depends on beside the programs.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// TCP's congestion control, unless a run has its own.
    pub(crate) congestion: String,
    /// The commit of this workspace; `None` where git cannot tell.
    pub(crate) commit: Option<String>,
    /// Whether files differ from that commit.
    pub(crate) changed: bool,
}

impl Machine {
    /// Looks around; what this system does not tell is `unknown`.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let congestion = format!("/proc/sys/{}", CONGESTION.replace('.', "/"));
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            kernel: named(kernel.trim()),
            cpu: named(model(&read("/proc/cpuinfo"))),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            congestion: named(read(&congestion).trim()),
            commit: git(&["rev-parse", "HEAD"]),
            changed: git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty()),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cores": self.cores,
            "congestion_control": self.congestion,
            "commit": self.commit,
            "changed": self.changed,
        })
    }

    /// One line for people.
    pub(crate) fn render(&self) -> String {
        format!(
            "{} cores of {}, Linux {} with {}, commit {}{}",
            self.cores,
            self.cpu,
            self.kernel,
            self.congestion,
            self.short_commit(),
            if self.changed { " with changes" } else { "" }
        )
    }

    /// The commit's first eight digits.
    pub(crate) fn short_commit(&self) -> &str {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        commit.get(..8).unwrap_or(commit)
    }
}

fn named(text: &str) -> String {
    if text.is_empty() { "unknown" } else { text }.to_owned()
}

fn model(cpuinfo: &str) -> &str {
    let mut lines = cpuinfo.lines();
    let line = lines.find(|line| line.starts_with("model name"));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or("", |(_, value)| value.trim())
}

fn git(args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command.current_dir(workspace()).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_the_first_cpu_is_found() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: B\n";
        assert_eq!(model(cpuinfo), "A CPU @ 2 GHz");
        assert_eq!(named(model("")), "unknown");
    }

    #[test]
    fn a_source_without_git_is_unknown() {
        let machine = Machine {
            kernel: "6".to_owned(),
            cpu: "c".to_owned(),
            cores: 2,
            congestion: "cubic".to_owned(),
            commit: None,
            changed: false,
        };
        assert_eq!(
            machine.render(),
            "2 cores of c, Linux 6 with cubic, commit unknown"
        );
    }
}
