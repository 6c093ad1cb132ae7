//! Between which machines is measured, and how do frames cross?
//!
//! A - R - B: three network namespaces with a veth pair at each side of the router R, MTU 1500,
//! no address translation. Whatever else a contestant needs, such as a discovery server, hangs
//! on R as well and is idle while figures are taken.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use netlab::{Host, Lab, LinkShape, Process};

use crate::figures::Frames;

/// The kernel setting of TCP's congestion control; each namespace has its own.
pub(crate) const CONGESTION: &str = "net.ipv4.tcp_congestion_control";

const START_LIMIT: Duration = Duration::from_secs(10);

/// What crosses the path, and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) frames: Frames,
    /// Percentage of frames that the router loses, in both directions.
    pub(crate) loss: f64,
    /// One way, on B's cable.
    pub(crate) delay: Duration,
    /// TCP's congestion control on A and B, if not the system's own.
    pub(crate) congestion: Option<String>,
}

/// The path with its ends; everything in it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Last, so that it is dropped last.
    pub(crate) lab: Lab,
}

impl Scene {
    /// Builds the path and starts an iperf3 server on B.
    pub(crate) fn build(name: &str, path: &Path) -> Result<Self> {
        let lab = Lab::new(&format!("bench-{name}"))?;
        let a = lab.internet().public_host("a")?;
        let b = if path.delay.is_zero() {
            lab.internet().public_host("b")?
        } else {
            let shape = LinkShape {
                delay: path.delay,
                ..LinkShape::default()
            };
            lab.internet().public_host_shaped("b", shape)?
        };
        let scene = Self { a, b, lab };
        scene.shape(path).context("cannot shape the path")?;
        let server = scene.b.spawn("iperf3", ["-s", "--forceflush"])?;
        server.wait_for_line("listening", START_LIMIT)?;
        Ok(scene)
    }

    /// One more host on the router.
    pub(crate) fn bystander(&self, name: &str) -> Result<Host> {
        self.lab.internet().public_host(name)
    }

    /// Lets nothing pass between A and B that does not stop at another host.
    pub(crate) fn keep_apart(&self) -> Result<()> {
        let ends = format!("{{ {}, {} }}", self.a.address(), self.b.address());
        let router = self.lab.internet().router();
        router.namespace().nft(&format!(
            "table ip apart {{\n\
             chain forward {{\n\
             type filter hook forward priority 0\n\
             ip saddr {ends} ip daddr {ends} drop\n\
             }}\n}}\n"
        ))
    }

    fn shape(&self, path: &Path) -> Result<()> {
        let router = self.lab.internet().router();
        match path.frames {
            Frames::Offload => {}
            Frames::Mtu => {
                for host in [&self.a, &self.b, router] {
                    segment(host, "on")?;
                }
            }
        }
        if let Some(name) = &path.congestion {
            for host in [&self.a, &self.b] {
                host.sysctl(CONGESTION, name)?;
            }
        }
        if path.loss > 0.0 {
            // A rule sees what the router has joined; it shall see each frame.
            segment(router, "off")?;
            router.namespace().nft(&loss_rule(path.loss))?;
        }
        Ok(())
    }
}

/// Fails, with its last words, where a process has ended.
pub(crate) fn check_alive(process: &Process) -> Result<()> {
    match process.ended()? {
        None => Ok(()),
        Some(status) => bail!(
            "{} ended ({status}):\n{}",
            process.label(),
            process.log_tail(20)
        ),
    }
}

/// The MTU of a device.
pub(crate) fn mtu(host: &Host, device: &str) -> Result<u32> {
    let json = host
        .run("ip", ["-j", "link", "show", "dev", device])?
        .stdout;
    let links: serde_json::Value = serde_json::from_str(&json)?;
    let mtu = links[0]["mtu"].as_u64();
    mtu.and_then(|mtu| u32::try_from(mtu).ok())
        .with_context(|| format!("`ip -j link` printed no MTU: {json}"))
}

/// Segmentation before every veth of a host, and GRO as given behind it.
fn segment(host: &Host, gro: &str) -> Result<()> {
    let list = host.run("ip", ["-j", "link", "show", "type", "veth"])?;
    let links: serde_json::Value = serde_json::from_str(&list.stdout)?;
    for link in links.as_array().context("`ip -j link` printed no list")? {
        // Where a host has no veth, the list is of empty objects.
        let Some(device) = link["ifname"].as_str() else {
            continue;
        };
        let switches = "tso off gso off tx-udp-segmentation off gro";
        let args = ["-K", device].into_iter().chain(switches.split(' '));
        host.run("ethtool", args.chain([gro]))?;
    }
    Ok(())
}

/// Loses frames with the given percentage, each for itself.
fn loss_rule(percent: f64) -> String {
    const OUT_OF: f64 = 1_000_000.0;
    let threshold = (percent / 100.0 * OUT_OF).round();
    format!(
        "table inet bench {{\n\
         chain forward {{\n\
         type filter hook forward priority 0\n\
         numgen random mod {OUT_OF} < {threshold} counter drop\n\
         }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_rule_counts_in_millionths() {
        assert!(loss_rule(0.1).contains("mod 1000000 < 1000 counter"));
        assert!(loss_rule(1.0).contains("mod 1000000 < 10000 counter"));
    }
}
