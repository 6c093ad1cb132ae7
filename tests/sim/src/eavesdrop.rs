//! What does whoever sees a link see?

use mesh_wire::frame::{Frame, classify};

use crate::{inner::SECRET, network::HostId};

/// Whoever sees a link sees no packet of the mesh, and nothing but STUN, WireGuard and, where it `routes`, frames around that.
///
/// # Panics
/// If there is anything else.
pub(crate) fn eavesdrop((host, routes): (HostId, bool), datagram: &[u8]) {
    assert!(
        !datagram.windows(SECRET.len()).any(|bytes| bytes == SECRET),
        "plaintext of a packet on the link of host {host}"
    );
    match classify(datagram) {
        Frame::Stun | Frame::WireGuard | Frame::ChannelData => {}
        Frame::Relay if routes => {}
        Frame::Relay => panic!("host {host} relays, and no scenario asks for that"),
        Frame::Unknown => panic!("host {host} sends what nobody can read: {datagram:?}"),
    }
}
