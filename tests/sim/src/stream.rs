//! How do hosts reach the server's TURN over connections? These lose nothing, keep the order, and are there one round trip
//! after they were asked for. A firewall that stops UDP lets them pass.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::Instant,
};

use mesh_core::{Arrival, StreamId, StreamRequest, Trouble, queue::ecn::Ecn};

use crate::{
    network::{HOP_LIMIT, HostId},
    turn::Sent,
    world::{Action, World},
};

/// Where the server sees connections come from: the host is in the address, the connection in the port. Nothing else in
/// the simulated Internet is there.
const CLIENTS: [u8; 3] = [192, 0, 2];

fn client(host: HostId, stream: StreamId) -> SocketAddr {
    let [a, b, c] = CLIENTS;
    let host = u8::try_from(host).expect("few hosts");
    let port = u16::try_from(stream.0.get()).expect("few connections");
    SocketAddr::new(Ipv4Addr::new(a, b, c, host).into(), port)
}

fn end_of(client: SocketAddr) -> Option<(HostId, StreamId)> {
    let IpAddr::V4(ip) = client.ip() else {
        return None;
    };
    let [a, b, c, host] = ip.octets();
    let stream = NonZeroU32::new(client.port().into()).filter(|_| [a, b, c] == CLIENTS)?;
    Some((host.into(), StreamId(stream)))
}

impl World {
    /// Does what the node of a host asks for.
    pub(crate) fn carry_out(&mut self, host: HostId, request: StreamRequest) {
        let (up, down) = (self.hosts[host].up.shape, self.hosts[host].down.shape);
        let ready = self.now() + up.delay + down.delay;
        let Some(relay) = self.server.relay.as_mut().filter(|_| self.server.is_up) else {
            if let StreamRequest::Open { stream, .. } = request {
                self.plan(ready, Action::HangUp { to: host, stream });
            }
            return;
        };
        match request {
            StreamRequest::Open { stream, .. } => relay.connect(client(host, stream), ready),
            StreamRequest::Close(stream) => relay.hang_up(client(host, stream)),
        }
    }

    /// A node says something to the server.
    pub(crate) fn say(&mut self, from: HostId, stream: StreamId, bytes: Vec<u8>) {
        let ready = self
            .server
            .relay
            .as_ref()
            .and_then(|relay| relay.ready(client(from, stream)));
        let begins = ready.map_or_else(|| self.now(), |ready| ready.max(self.now()));
        let at = begins + self.hosts[from].up.shape.delay;
        let action = Action::Say {
            from,
            stream,
            bytes,
        };
        self.plan(at, action);
    }

    /// It has come to the server.
    pub(crate) fn hear(&mut self, from: HostId, stream: StreamId, bytes: &[u8]) {
        let (now, client) = (self.now(), client(from, stream));
        let relay = self.server.relay.as_mut();
        let relay = relay.filter(|relay| self.server.is_up && relay.ready(client).is_some());
        let Some(relay) = relay else {
            let at = now + self.hosts[from].down.shape.delay;
            return self.plan(at, Action::HangUp { to: from, stream });
        };
        let way = (client, relay.address);
        for sent in relay.receive(way, bytes, now) {
            self.deliver_from_server(from, sent);
        }
    }

    /// What the server sends because of something that came from a host.
    pub(crate) fn deliver_from_server(&mut self, cause: HostId, sent: Sent) {
        let now = self.now();
        let Some((to, stream)) = end_of(sent.to) else {
            let way = (sent.from, sent.to, HOP_LIMIT);
            return self.send_from_server(cause, way, sent.bytes);
        };
        let action = Action::Arrive {
            to,
            from: Some(cause),
            arrival: Arrival {
                from: sent.from,
                to: self.hosts[to].address,
                ecn: Ecn::NotEct,
                stream: Some(stream),
            },
            bytes: sent.bytes,
        };
        self.plan(now + self.hosts[to].down.shape.delay, action);
    }

    /// The server has closed a connection, or refuses it.
    pub(crate) fn hung_up(&mut self, host: HostId, stream: StreamId) {
        self.with_node(host, |node, now: Instant, transmit| {
            node.handle_stream_end(stream, Trouble::Closed, now, transmit);
        });
    }
}
