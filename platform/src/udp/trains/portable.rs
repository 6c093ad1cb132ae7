//! One datagram at a time.

use super::Arrived;
use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
};
use tokio::net::UdpSocket;

pub(super) fn join_arrivals(_: &UdpSocket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn try_recv_train(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
    let (length, from) = socket.try_recv_from(buffer)?;
    Ok(Arrived {
        from,
        length,
        stride: length,
    })
}

/// Not by one call.
pub(super) fn send_together(
    _: &SockRef<'_>,
    _: SocketAddr,
    _: &[[IoSlice<'_>; 2]],
    _: usize,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
