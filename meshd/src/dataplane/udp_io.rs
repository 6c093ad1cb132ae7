//! How do datagrams come in and go out? One socket per IP version on one port, batches both ways.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use mesh_core::{
    Arrival, TooLong, TransmitQueue,
    queue::{ecn::Ecn, transmit::Train},
};
use platform::{
    readiness::Watch,
    udp::{Destination, RecvBuffers, Report, SLOTS, UdpError, UdpSocket},
};

use super::{
    additional::{Additional, Leave},
    streams::Streams,
};
use crate::problem::{self, Listener, Problem};

/// Trains taken by one receive call while they are long: what was received is then still in the cache of the core when
/// it is opened, and the first of it is soon with its reader.
const BULK_TRAINS: usize = 2;
/// From this average on trains are long.
const BULK: usize = 16 << 10;
/// A socket that takes nothing for this long has lost its network; what was to be sent is dropped as on any full link.
const SEND_PATIENCE: Duration = Duration::from_millis(100);

/// Errors of a socket that are looked at in one turn; strangers may make as many as they like.
const ERRORS_PER_TURN: usize = 16;

/// The mesh's sockets.
pub(super) struct UdpIo {
    /// IPv4, then IPv6, which is absent on a host without it.
    sockets: [Option<UdpSocket>; 2],
    /// Beside these. The places of those that have a datagram count on from here.
    pub(super) additional: Additional,
    port: u16,
    buffers: RecvBuffers,
    /// Trains to take by the next receive call.
    most: usize,
}

impl UdpIo {
    /// Binds the port for both IP versions.
    pub(super) fn bind(port: u16, leave: &Leave) -> Result<Self, Problem> {
        let any = |ip: IpAddr, port| SocketAddr::new(ip, port);
        let address = any(Ipv4Addr::UNSPECIFIED.into(), port);
        let v4 = UdpSocket::bind(address).map_err(|error| match error {
            UdpError::PortInUse { .. } => problem::port_in_use(Listener::Mesh, address),
            error @ (UdpError::AddressNotAvailable { .. }
            | UdpError::PermissionDenied { .. }
            | UdpError::System { .. }) => problem::operation_failed("open the mesh socket", &error),
        })?;
        let port = v4.local_addr().port();
        let v6 = UdpSocket::bind(any(Ipv6Addr::UNSPECIFIED.into(), port))
            .inspect_err(|error| tracing::info!(%error, "no IPv6 socket"))
            .ok();
        Ok(Self {
            sockets: [Some(v4), v6],
            additional: Additional::new(leave.clone()),
            port,
            buffers: RecvBuffers::new(),
            most: SLOTS,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// For whoever waits for them.
    pub(super) fn sockets(&self) -> ([Option<&UdpSocket>; 2], &[UdpSocket]) {
        let own = self.sockets.each_ref().map(Option::as_ref);
        (own, self.additional.sockets())
    }

    /// The place of an additional socket, for [`Self::receive`] and [`Self::take_errors`].
    pub(super) fn place_of_additional(socket: usize) -> usize {
        2 + socket
    }

    /// Gives the trains that one receive call takes from a socket, with their strides, to `each`; returns whether it took
    /// as many as it could.
    pub(super) fn receive(
        &mut self,
        socket: usize,
        mut each: impl FnMut(Arrival, (&mut [u8], usize)),
    ) -> bool {
        let mut bytes = 0;
        let Some(socket) = socket_at(&self.sockets, &self.additional, socket) else {
            return false;
        };
        let local = socket.local_addr();
        let received = socket.try_recv(&mut self.buffers, self.most, |meta, train| {
            bytes += train.len();
            let to = meta.to_ip.unwrap_or_else(|| local.ip());
            let arrival = Arrival {
                from: meta.from,
                to: SocketAddr::new(to, local.port()),
                ecn: Ecn::from_bits(meta.ecn),
                stream: None,
            };
            each(arrival, (train, meta.stride));
        });
        match received {
            Ok(trains) => {
                let more = trains == self.most;
                let long = bytes >= BULK * trains.max(1);
                self.most = if long { BULK_TRAINS } else { SLOTS };
                more
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                // An ICMP error for something that we sent; the socket goes on.
                tracing::debug!(%error, "receive");
                false
            }
        }
    }

    /// Gives `each` what is known of datagrams that were too long for some link.
    pub(super) fn take_errors(&self, socket: usize, mut each: impl FnMut(TooLong<'_>)) {
        let Some(socket) = socket_at(&self.sockets, &self.additional, socket) else {
            return;
        };
        for _ in 0..ERRORS_PER_TURN {
            match socket.next_error() {
                Some(Report::TooLong(news)) => each(TooLong {
                    to: news.to,
                    mtu: usize::try_from(news.mtu).unwrap_or(usize::MAX),
                    quoted: (!news.local).then(|| news.quoted()),
                }),
                Some(Report::Other) => {}
                None => return,
            }
        }
    }

    /// Sends the trains that can grow no more; those for a TURN server that UDP does not reach go to its connection.
    pub(super) fn send_closed(
        &mut self,
        transmit: &mut TransmitQueue,
        (watch, streams): (&Watch, &mut Streams),
    ) {
        let mut sender = Sender::new(self, watch);
        transmit.send_closed(|train| sender.send(train, streams));
    }

    /// Sends all trains, likewise.
    pub(super) fn send_all(
        &mut self,
        transmit: &mut TransmitQueue,
        (watch, streams): (&Watch, &mut Streams),
    ) {
        let mut sender = Sender::new(self, watch);
        transmit.send_all(|train| sender.send(train, streams));
    }
}

fn socket_at<'a>(
    own: &'a [Option<UdpSocket>; 2],
    additional: &'a Additional,
    place: usize,
) -> Option<&'a UdpSocket> {
    match own.get(place) {
        Some(socket) => socket.as_ref(),
        None => additional.sockets().get(place - own.len()),
    }
}

/// Sends trains, and has patience once.
struct Sender<'a> {
    udp: &'a mut UdpIo,
    watch: &'a Watch,
    patience: Duration,
}

impl<'a> Sender<'a> {
    fn new(udp: &'a mut UdpIo, watch: &'a Watch) -> Self {
        Self {
            udp,
            watch,
            patience: SEND_PATIENCE,
        }
    }

    /// Returns how many bytes are done with: all of them, for what cannot be sent is lost.
    fn send(&mut self, train: &Train, streams: &mut Streams) -> usize {
        if let Some(stream) = train.route().stream {
            streams.send(stream, train);
        } else if let Err(error) = self.send_all(train) {
            tracing::debug!(%error, "send");
        }
        train.contents().len()
    }

    fn send_all(&mut self, train: &Train) -> io::Result<()> {
        let route = train.route();
        let version = usize::from(route.dst.is_ipv6());
        let socket = match route.port {
            Some(port) => self.udp.additional.with_port(port),
            None => self.udp.sockets[version].as_mut(),
        };
        let Some(socket) = socket else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let mut to = Destination {
            address: route.dst,
            source_ip: route.src.filter(|ip| !ip.is_unspecified()),
            ecn: train.ecn().bits(),
            hop_limit: train.hop_limit(),
        };
        let mut rest = train.contents();
        while !rest.is_empty() {
            match socket.try_send(to, rest, train.segment_size()) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.watch.wait_writable(socket, self.patience)? {
                        self.patience = Duration::ZERO;
                        return Err(error);
                    }
                }
                // The address that this path began with may be gone; the system knows a better one.
                Err(_) if to.source_ip.is_some() => to.source_ip = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
