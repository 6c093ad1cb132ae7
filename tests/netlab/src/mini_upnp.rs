//! How does a home router let hosts ask it for ports? miniupnpd runs on it, with one protocol or all.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{Home, Internet, Process};

/// What a host may ask in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    Pcp,
    NatPmp,
    Upnp,
}

/// miniupnpd on a home's router.
#[derive(Debug)]
pub struct MiniUpnp {
    pub process: Process,
    /// Where the router takes packets for whoever has a mapping.
    pub external: Ipv4Addr,
    home: Home,
    asking: Asking,
    seconds: u32,
}

/// The chains that miniupnpd fills, and no rules in them: it finds none of its own after a restart.
const CHAINS: &str = r#"
table inet miniupnpd
delete table inet miniupnpd
table inet miniupnpd {
    chain forward {
    }
    chain prerouting {
    }
    chain postrouting {
    }
    chain wan {
        type nat hook prerouting priority dstnat; policy accept;
        jump prerouting
    }
}
"#;

impl MiniUpnp {
    /// Starts it on the router that the home's hosts see, which gets one more address for that: miniupnpd takes none of
    /// the lab's, which are reserved for documentation, for public.
    pub fn start(internet: &Internet, home: &Home, asking: Asking) -> Result<Self> {
        Self::leasing(internet, home, asking, 86_400)
    }

    /// As [`Self::start`], and maps by PCP for at most `seconds` at a time.
    pub fn leasing(internet: &Internet, home: &Home, asking: Asking, seconds: u32) -> Result<Self> {
        let [.., number] = home.outermost().address().octets();
        let external = Ipv4Addr::new(11, 0, 0, number);
        let router = home.router();
        router
            .namespace()
            .ip(&format!("addr add {external}/32 dev wan"))?;
        internet
            .router()
            .namespace()
            .ip(&format!("route add {external} via {}", router.address()))?;
        // PCP and NAT-PMP share a port, and tell each other apart by the first byte.
        let other = match asking {
            Asking::Pcp => "udp dport 5351 @th,64,8 0 drop",
            Asking::NatPmp => "udp dport 5351 @th,64,8 2 drop",
            Asking::Upnp => "",
        };
        router.namespace().nft(&format!(
            "table ip asking {{\nchain input {{\ntype filter hook input priority filter;\n{other}\n}}\n}}\n"
        ))?;
        Self::launch(home, (external, seconds), asking)
    }

    fn launch(home: &Home, (external, seconds): (Ipv4Addr, u32), asking: Asking) -> Result<Self> {
        let router = home.router();
        router.namespace().nft(CHAINS)?;
        let (upnp, natpmp) = match asking {
            Asking::Pcp | Asking::NatPmp => ("no", "yes"),
            Asking::Upnp => ("yes", "no"),
        };
        let dir = router.dir();
        let file = dir.join("miniupnpd.conf");
        let text = format!(
            "ext_ifname=wan\next_ip={external}\nlistening_ip=lan0\nipv6_disable=yes\nsecure_mode=yes\n\
             enable_upnp={upnp}\nenable_natpmp={natpmp}\nmin_lifetime={}\nmax_lifetime={seconds}\n\
             upnp_table_name=miniupnpd\nupnp_nat_table_name=miniupnpd\nupnp_forward_chain=forward\n\
             upnp_nat_chain=prerouting\nupnp_nat_postrouting_chain=postrouting\n\
             uuid=00000000-0000-4000-8000-000000000000\nallow 1024-65535 0.0.0.0/0 1024-65535\n",
            // It must be less.
            (seconds - 1).min(120)
        );
        std::fs::write(&file, text).context("cannot write miniupnpd's configuration")?;
        let mut command = router.command("miniupnpd");
        command.args(["-d", "-f"]).arg(file);
        command.arg("-P").arg(dir.join("miniupnpd.pid"));
        let process = router.spawn_command(command)?;
        process.wait_for_line("istening", Duration::from_secs(10))?;
        Ok(Self {
            process,
            external,
            home: home.clone(),
            asking,
            seconds,
        })
    }

    /// Kills it with all that it maps, and starts it again, as when the router is switched off and on.
    pub fn restart(&self) -> Result<Self> {
        self.process.kill()?;
        Self::launch(&self.home, (self.external, self.seconds), self.asking)
    }

    /// The rules of its mappings, as `nft` lists them.
    pub fn mappings(&self) -> Result<Vec<String>> {
        let router = self.home.router();
        let listed = router.run("nft", ["list", "chain", "inet", "miniupnpd", "prerouting"])?;
        let rules = listed.stdout.lines().map(str::trim);
        let rules = rules.filter(|line| line.contains("dnat"));
        ensure!(
            listed.stdout.contains("prerouting"),
            "no chain in {:?}",
            listed.stdout
        );
        Ok(rules.map(str::to_owned).collect())
    }
}
