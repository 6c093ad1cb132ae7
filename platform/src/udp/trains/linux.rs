//! Trains by UDP_GRO and UDP_SEGMENT.

use super::Arrived;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use socket2::SockRef;
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
};
use tokio::{io::Interest, net::UdpSocket};

pub(super) fn join_arrivals(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::UdpGroSegment, &true)?)
}

pub(super) fn try_recv_train(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
    socket.try_io(Interest::READABLE, || receive(socket, buffer))
}

/// Room for the one control message that is asked for, aligned as its header (`cmsghdr`) must be.
#[repr(C, align(8))]
struct Control([u8; cmsg_space::<libc::c_int>()]);

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
    let mut control = Control([0; cmsg_space::<libc::c_int>()]);
    let mut into = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut into,
        Some(&mut control.0),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let stride = received.cmsgs()?.find_map(|said| match said {
        ControlMessageOwned::UdpGroSegments(stride) => usize::try_from(stride).ok(),
        _ => None,
    });
    let from = received.address.as_ref().and_then(std_address);
    Ok(Arrived {
        from: from.ok_or(io::ErrorKind::InvalidData)?,
        length: received.bytes,
        stride: stride.unwrap_or(received.bytes),
    })
}

fn std_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in();
    let v6 = address.as_sockaddr_in6();
    v4.map(|v4| SocketAddrV4::from(*v4).into())
        .or_else(|| v6.map(|v6| SocketAddrV6::from(*v6).into()))
}

/// Sends all by one call.
pub(super) fn send_together(
    socket: &SockRef<'_>,
    to: SocketAddr,
    datagrams: &[[IoSlice<'_>; 2]],
    segment: usize,
) -> io::Result<()> {
    let segment = u16::try_from(segment).map_err(|_| io::ErrorKind::InvalidInput)?;
    sendmsg(
        socket.as_raw_fd(),
        datagrams.as_flattened(),
        &[ControlMessage::UdpGsoSegments(&segment)],
        MsgFlags::MSG_DONTWAIT,
        Some(&SockaddrStorage::from(to)),
    )?;
    Ok(())
}
