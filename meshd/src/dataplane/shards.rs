//! Which data thread has which peer, and what happens to a packet that another thread read?
//!
//! Each thread has a `Node` with its own peers, a queue of the interface and a UDP port of its own: datagrams come to
//! the right thread by their port, and nothing is shared. The system gives a flow's packets to the queue into which the
//! flow's other direction was written, so only the first of them, and flows that nobody answers, go astray.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use mesh_core::{NodeStatus, lan::ip::IpHeader};
use mesh_wire::NodeId;
use platform::{readiness::Bell, tun::VNET_HEADER};
use tokio::sync::watch;

/// Strays on their way to one thread; more are dropped, as by any full queue.
const STRAYS: usize = 128;

/// The thread that has a peer. Identities are public keys, so their bytes are as good as random.
pub(super) fn thread_of(node: &NodeId, threads: usize) -> usize {
    usize::from(node.as_bytes()[0]) % threads.max(1)
}

/// The thread of each virtual address.
pub(super) type Owners = BTreeMap<IpAddr, usize>;

/// Takes packets to the thread that has their destination.
pub(super) struct Strays {
    thread: usize,
    newest: watch::Receiver<Arc<Owners>>,
    owners: Arc<Owners>,
    others: Vec<(SyncSender<Box<[u8]>>, Bell)>,
    ours: Receiver<Box<[u8]>>,
    lost: u64,
}

impl Strays {
    /// One for each of the threads, whose bells are given.
    pub(super) fn between(bells: &[Bell], owners: &watch::Sender<Arc<Owners>>) -> Vec<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            bells.iter().map(|_| sync_channel(STRAYS)).unzip();
        let others: Vec<_> = senders.into_iter().zip(bells.iter().cloned()).collect();
        let strays = receivers
            .into_iter()
            .enumerate()
            .map(|(thread, ours)| Self {
                thread,
                newest: owners.subscribe(),
                owners: Arc::default(),
                others: others.clone(),
                ours,
                lost: 0,
            });
        strays.collect()
    }

    /// Looks at who has which address now; to be called after the bell.
    pub(super) fn refresh(&mut self) {
        self.owners = Arc::clone(&self.newest.borrow_and_update());
    }

    /// Gives a frame from the interface away if another thread has its destination; returns whether it did.
    pub(super) fn hand_over(&mut self, frame: &[u8]) -> bool {
        let destination = frame
            .get(VNET_HEADER..)
            .and_then(IpHeader::parse)
            .map(|ip| ip.destination);
        let owner = destination.and_then(|ip| self.owners.get(&ip));
        let Some((queue, bell)) = owner
            .filter(|owner| **owner != self.thread)
            .and_then(|owner| self.others.get(*owner))
        else {
            return false;
        };
        match queue.try_send(frame.into()) {
            Ok(()) => bell.ring(),
            Err(_) => self.lost += 1,
        }
        true
    }

    /// Frames that found the queue of their thread full.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// A frame that another thread read for us.
    pub(super) fn next(&self) -> Option<Box<[u8]>> {
        self.ours.try_recv().ok()
    }
}

/// Keeps one status of all threads.
pub(super) async fn merge(
    mut parts: Vec<watch::Receiver<Arc<NodeStatus>>>,
    whole: watch::Sender<Arc<NodeStatus>>,
) {
    loop {
        whole.send_replace(Arc::new(whole_of(&mut parts)));
        let changes = parts.iter_mut().map(|part| Box::pin(part.changed()));
        let (changed, ..) = futures::future::select_all(changes).await;
        if changed.is_err() {
            return;
        }
    }
}

fn whole_of(parts: &mut [watch::Receiver<Arc<NodeStatus>>]) -> NodeStatus {
    let mut parts = parts.iter_mut().map(|part| {
        let part = part.borrow_and_update();
        NodeStatus::clone(&part)
    });
    let mut whole = parts.next().expect("there is a thread");
    for part in parts {
        whole.peers.extend(part.peers);
        for reason in mesh_core::DropReason::ALL {
            whole.counters.count(reason, part.counters.get(reason));
        }
    }
    whole
}

#[cfg(test)]
mod tests;
