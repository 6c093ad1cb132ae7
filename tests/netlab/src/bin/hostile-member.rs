//! A member that would have another one send to whom it names: with the state of a real member it registers, comes online, and
//! seals letters, four a second, each with new credentials and candidates at these addresses.
//!
//! usage: `hostile-member STATE TO ADDRESS...`
//! STATE is the directory of a `meshd` that has ended, TO another member's name.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use mesh_wire::{
    discovery::ClientMessage,
    letter::Content,
    signal::{MAX_CANDIDATES, Signal},
};
use meshd::{
    discovery::events::Events, membership::Membership, state::StateDir,
    trust::correspondence::Correspondence,
};
use tokio::time::interval;

const HEARTBEAT: Duration = Duration::from_secs(30);
/// Within what a server forwards.
const PAUSE: Duration = Duration::from_millis(250);

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "who starts it waits for these lines")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (fixed, addresses) = arguments
        .split_first_chunk()
        .context("usage: hostile-member STATE TO ADDRESS...")?;
    let [state, to] = fixed;
    let addresses = addresses
        .iter()
        .map(|address| address.parse())
        .collect::<Result<Vec<IpAddr>, _>>()?;

    let state = Arc::new(StateDir::open(Path::new(state))?);
    let identity = Arc::new(state.identity()?);
    let network = state.network()?.context("that is nobody's state")?;
    let membership = Membership::resume(state, Arc::clone(&identity), network)?;
    let network = membership.network();
    let rest = membership.rest(network.server.clone());
    let mut conversation = rest.converse().await?;
    membership.register(&mut conversation).await??;
    let members = conversation.peers(&network.id).await?;
    let mut listed = members.peers.iter();
    let victim = listed.find(|member| member.name == *to);
    let victim = &victim.context("there is no such member")?.record;
    let key = identity.signing_key();
    let mut events = Events::open(conversation, &network.id, key, HEARTBEAT).await?;
    let secret = identity.wireguard_secret();
    let mut letters = Correspondence::new(network.id, identity.node_id(), secret, network.psk);
    println!("ready");
    let (mut due, mut written) = (interval(PAUSE), 0);
    loop {
        tokio::select! {
            said = events.next() => drop(said?),
            _ = due.tick() => {
                let content = Content::Signal(naming(written, &addresses));
                let payload = letters.seal(victim, membership.seq(), content);
                let payload = payload.ok_or_else(|| anyhow!("no letter"))?;
                let to = victim.node_id;
                events.send(&ClientMessage::Signal { to, payload }).await?;
                written += 1;
                println!("wrote {written}");
            }
        }
    }
}

/// All the candidates that a letter may carry: the addresses by turns, as a host's own and as seen by STUN.
fn naming(letter: usize, addresses: &[IpAddr]) -> Signal {
    let kind = match letter % 2 {
        0 => "host",
        _ => "srflx raddr 0.0.0.0 rport 0",
    };
    let candidates = (0..MAX_CANDIDATES).zip(addresses.iter().cycle());
    let candidate = |(number, address): (usize, &IpAddr)| {
        let port = 1024 + (letter * MAX_CANDIDATES + number) % 60_000;
        format!("candidate:1 1 udp 2130706431 {address} {port} typ {kind}")
    };
    Signal {
        ufrag: format!("ufrag{letter:05}"),
        pwd: "p".repeat(24),
        remote_ufrag: None,
        candidates: candidates.map(candidate).collect(),
    }
}
