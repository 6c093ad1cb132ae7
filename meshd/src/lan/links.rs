//! Through which sockets does the LAN hear us, and we it? One for each interface and IP version, as the host's addresses come
//! and go; never the mesh's own.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use mesh_wire::lan::dns::{GROUP_V4, GROUP_V6, MAX_PACKET, PORT};
use platform::net::{addresses::LocalAddress, multicast};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

/// Interfaces with a LAN that are used; a host with more has containers.
const MAX_LINKS: usize = 16;
/// Packets that wait to be looked at; more are dropped.
const QUEUE: usize = 64;

/// A packet, and where it came in.
#[derive(Debug)]
pub(super) struct Packet {
    /// The interface.
    pub(super) interface: String,
    /// Who is said to have sent it.
    pub(super) from: SocketAddr,
    /// What it is.
    pub(super) bytes: Vec<u8>,
}

/// The sockets, each with a task that reads it.
pub(super) struct Links {
    open: BTreeMap<(String, bool), Link>,
    nets: BTreeMap<String, Vec<IpNet>>,
    heard: mpsc::Sender<Packet>,
}

struct Link {
    address: LocalAddress,
    socket: Arc<UdpSocket>,
    reading: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Links {
    /// None yet, and where their packets will come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Packet>) {
        let (heard, packets) = mpsc::channel(QUEUE);
        let links = Self {
            open: BTreeMap::new(),
            nets: BTreeMap::new(),
            heard,
        };
        (links, packets)
    }

    /// Opens what is new among the host's addresses, and closes what is gone.
    ///
    /// # Errors
    /// If there are interfaces, but none could be used: with the reason of the last.
    pub(super) fn refresh(&mut self, found: &[LocalAddress]) -> io::Result<()> {
        self.nets.clear();
        let mut wanted: BTreeMap<(String, bool), &LocalAddress> = BTreeMap::new();
        for address in found {
            let Some(net) = segment(address) else {
                continue;
            };
            let nets = self.nets.entry(address.interface.clone()).or_default();
            nets.push(net);
            let key = (address.interface.clone(), address.address.is_ipv4());
            if wanted.len() < MAX_LINKS {
                wanted.entry(key).or_insert(address);
            }
        }
        self.open
            .retain(|key, link| wanted.get(key) == Some(&&link.address));
        let mut failed = None;
        for (key, address) in wanted {
            if self.open.contains_key(&key) {
                continue;
            }
            match self.open_link(address) {
                Ok(link) => drop(self.open.insert(key, link)),
                Err(error) => {
                    tracing::debug!(interface = %address.interface, %error, "no multicast DNS there");
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if self.open.is_empty() => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// The addresses of an interface, each with the length of its prefix.
    pub(super) fn nets(&self, interface: &str) -> &[IpNet] {
        self.nets.get(interface).map_or(&[], Vec::as_slice)
    }

    /// Whether the packet comes from the segment itself, and from where multicast DNS is spoken (RFC 6762, 11).
    pub(super) fn is_from_here(&self, packet: &Packet) -> bool {
        let is_local = match packet.from.ip() {
            IpAddr::V6(address) if address.is_unicast_link_local() => true,
            address @ (IpAddr::V4(_) | IpAddr::V6(_)) => {
                let nets = self.nets(&packet.interface);
                nets.iter().any(|net| net.contains(&address))
            }
        };
        is_local && packet.from.port() == PORT
    }

    /// Says on each interface what `text` makes for it of its addresses.
    pub(super) async fn say(&self, text: impl Fn(Vec<IpAddr>) -> Vec<u8>) {
        for ((interface, is_v4), link) in &self.open {
            let own = self.nets(interface).iter().map(IpNet::addr).collect();
            let group: IpAddr = match is_v4 {
                true => GROUP_V4.into(),
                false => GROUP_V6.into(),
            };
            if let Err(error) = link.socket.send_to(&text(own), (group, PORT)).await {
                tracing::debug!(%interface, %error, "could not speak to the LAN");
            }
        }
    }

    fn open_link(&self, address: &LocalAddress) -> io::Result<Link> {
        let group: IpAddr = match address.address {
            IpAddr::V4(_) => GROUP_V4.into(),
            IpAddr::V6(_) => GROUP_V6.into(),
        };
        let socket = multicast::join(address, group, PORT)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let reading = read(
            Arc::clone(&socket),
            address.interface.clone(),
            self.heard.clone(),
        );
        Ok(Link {
            address: address.clone(),
            socket,
            reading: tokio::spawn(reading),
        })
    }
}

/// Hands packets over until nobody wants them, or the socket fails: it is opened again when addresses are looked at.
async fn read(socket: Arc<UdpSocket>, interface: String, heard: mpsc::Sender<Packet>) {
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%interface, %error, "the LAN is not heard any more");
                return;
            }
        };
        let packet = Packet {
            interface: interface.clone(),
            from,
            bytes: buffer.get(..len).unwrap_or_default().to_vec(),
        };
        // Full: there is more than we look at.
        if let Err(mpsc::error::TrySendError::Closed(_)) = heard.try_send(packet) {
            return;
        }
    }
}

/// The network in which others may be on this interface; a lone address has none.
fn segment(address: &LocalAddress) -> Option<IpNet> {
    let net = IpNet::new(address.address, address.prefix_len).ok()?;
    (net.prefix_len() < net.max_prefix_len()).then_some(net)
}
