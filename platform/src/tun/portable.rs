//! The TUN device of macOS (utun) and Windows (wintun), without offload: the virtio header is
//! added as zeros on read and skipped on write.

use super::{Merge, TunConfig, TunError, VNET_HEADER, error::check_name};
use ipnet::IpNet;
use std::io;
use tun_rs::DeviceBuilder;

#[cfg(not(unix))]
use tun_rs::AsyncDevice as Inner;
#[cfg(unix)]
use tun_rs::SyncDevice as Inner;

/// One interface of the system's own kind.
pub(super) struct Device {
    inner: Inner,
    name: String,
}

impl Device {
    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn create(config: &TunConfig) -> Result<Self, TunError> {
        check_name(&config.name)?;
        let inner = build(config).map_err(|source| create_error(config, source))?;
        let name = inner.name().map_err(|source| TunError::System {
            operation: "read the name of",
            name: config.name.clone(),
            source,
        })?;
        Ok(Self { inner, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn merge(&self) -> Merge {
        Merge {
            tcp: false,
            udp: false,
        }
    }

    pub(super) fn another_queue(&self) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(unix)]
    pub(super) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.inner)
    }

    #[cfg(not(unix))]
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.inner.readable().await
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((header, packet)) = buffer.split_at_mut_checked(VNET_HEADER) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        header.fill(0);
        Ok(VNET_HEADER + receive(&self.inner, packet)?)
    }

    pub(super) fn try_write(&self, frame: &[u8]) -> io::Result<()> {
        let packet = frame
            .get(VNET_HEADER..)
            .ok_or(io::ErrorKind::InvalidInput)?;
        send(&self.inner, packet).map(drop)
    }
}

/// The device vanished or was shut down, as opposed to one packet being refused.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(unix)]
fn build(config: &TunConfig) -> io::Result<Inner> {
    let device = builder(config).build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

#[cfg(unix)]
fn receive(device: &Inner, buffer: &mut [u8]) -> io::Result<usize> {
    device.recv(buffer)
}

#[cfg(unix)]
fn send(device: &Inner, packet: &[u8]) -> io::Result<usize> {
    device.send(packet)
}

#[cfg(not(unix))]
fn build(config: &TunConfig) -> io::Result<Inner> {
    builder(config).build_async()
}

#[cfg(not(unix))]
fn receive(device: &Inner, buffer: &mut [u8]) -> io::Result<usize> {
    device.try_recv(buffer)
}

#[cfg(not(unix))]
fn send(device: &Inner, packet: &[u8]) -> io::Result<usize> {
    device.try_send(packet)
}

fn builder(config: &TunConfig) -> DeviceBuilder {
    let mut builder = DeviceBuilder::new().mtu(config.mtu);
    // macOS accepts no other names and numbers the interface itself when none is given.
    if !cfg!(target_os = "macos") || config.name.starts_with("utun") {
        builder = builder.name(&config.name);
    }
    for address in &config.addresses {
        builder = match address {
            IpNet::V4(net) => builder.ipv4(net.addr(), net.prefix_len(), None),
            IpNet::V6(net) => builder.ipv6(net.addr(), net.prefix_len()),
        };
    }
    builder
}

fn create_error(config: &TunConfig, source: io::Error) -> TunError {
    let name = config.name.clone();
    match source.kind() {
        io::ErrorKind::PermissionDenied => TunError::PermissionDenied { name },
        io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy => TunError::NameTaken { name },
        io::ErrorKind::NotFound => TunError::NoDevice { name },
        _ => TunError::System {
            operation: "create",
            name,
            source,
        },
    }
}
