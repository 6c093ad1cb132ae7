//! The Linux TUN device: `/dev/net/tun` driven by ioctl, its addresses set by rtnetlink. Never
//! persistent, so the kernel removes it with the last file descriptor, `kill -9` included.

use super::{Merge, TunConfig, TunError, VNET_HEADER, error::check_name};
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};
use std::{
    ffi::CStr,
    fs::OpenOptions,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    os::unix::fs::OpenOptionsExt,
};

const NODE: &str = "/dev/net/tun";

/// One attached queue of one interface.
pub(super) struct Device {
    fd: OwnedFd,
    name: String,
    /// The kernel puts a virtio header in front of each packet.
    vnet_header: bool,
    merge: Merge,
}

impl Device {
    pub(super) async fn create(config: &TunConfig) -> Result<Self, TunError> {
        check_name(&config.name)?;
        let (fd, vnet_header) = attach(config)?;
        let merge = if vnet_header {
            negotiate(&fd).map_err(|source| system("set the offload of", config, source))?
        } else {
            Merge::default()
        };
        let name = interface_name(&fd).map_err(|source| system("name", config, source))?;
        configure(config).await?;
        Ok(Self {
            fd,
            name,
            vnet_header,
            merge,
        })
    }

    pub(super) fn another_queue(&self) -> io::Result<Self> {
        let fd = open()?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE;
        set_interface(&fd, &self.name, flags | vnet_flag(self.vnet_header))?;
        if self.vnet_header {
            set_header_size(&fd)?;
        }
        Ok(Self {
            fd,
            name: self.name.clone(),
            vnet_header: self.vnet_header,
            merge: self.merge,
        })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn merge(&self) -> Merge {
        self.merge
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((header, packet)) = buffer.split_at_mut_checked(VNET_HEADER) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !self.vnet_header {
            header.fill(0);
            return Ok(VNET_HEADER + self.read(packet)?);
        }
        match self.read(buffer)? {
            length if length < VNET_HEADER => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    pub(super) fn try_write(&self, frame: &[u8]) -> io::Result<()> {
        let skip = if self.vnet_header { 0 } else { VNET_HEADER };
        let bytes = frame.get(skip..).ok_or(io::ErrorKind::InvalidInput)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, bytes))?;
        Ok(())
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::read(&self.fd, &mut *buffer)
        })?)
    }
}

/// The interface was deleted under us, as opposed to one packet being refused.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADFD | libc::EBADF | libc::ENODEV)
    )
}

/// Opens the node and creates the interface on it; the flag tells whether it has virtio headers.
fn attach(config: &TunConfig) -> Result<(OwnedFd, bool), TunError> {
    let name = || config.name.clone();
    let fd = open().map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoDevice { name: name() },
        Some(libc::EACCES | libc::EPERM) => TunError::PermissionDenied { name: name() },
        _ => system("open /dev/net/tun for", config, source),
    })?;
    // EXCL: without it an interface left by another program would be adopted with all its settings.
    let exclusive = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    let plain = exclusive | queues_flag(config.multi_queue);
    let mut vnet_header = config.offload;
    let mut result = set_interface(&fd, &config.name, plain | vnet_flag(vnet_header));
    if vnet_header && matches!(&result, Err(e) if e.raw_os_error() == Some(libc::EINVAL)) {
        vnet_header = false;
        result = set_interface(&fd, &config.name, plain);
    }
    match result {
        Ok(()) => Ok((fd, vnet_header)),
        Err(source) => Err(match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => TunError::NameTaken { name: name() },
            Some(libc::EPERM | libc::EACCES) => TunError::PermissionDenied { name: name() },
            _ => system("create", config, source),
        }),
    }
}

fn open() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(NODE)?;
    Ok(file.into())
}

fn queues_flag(many: bool) -> libc::c_int {
    if many { libc::IFF_MULTI_QUEUE } else { 0 }
}

fn vnet_flag(wanted: bool) -> libc::c_int {
    if wanted { libc::IFF_VNET_HDR } else { 0 }
}

/// Agrees on the most offload that the kernel has: TCP and UDP, TCP only, or none.
fn negotiate(fd: &OwnedFd) -> io::Result<Merge> {
    set_header_size(fd)?;
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    if set_offload(fd, tcp | udp).is_ok() {
        return Ok(Merge {
            tcp: true,
            udp: true,
        });
    }
    if set_offload(fd, tcp).is_ok() {
        return Ok(Merge {
            tcp: true,
            udp: false,
        });
    }
    // Headers without any offload: every packet comes complete.
    set_offload(fd, 0)?;
    Ok(Merge::default())
}

fn set_header_size(fd: &OwnedFd) -> io::Result<()> {
    let size = VNET_HEADER as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const size) })
}

fn set_offload(fd: &OwnedFd, features: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value, no memory is passed.
    check(unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETOFFLOAD as _,
            libc::c_ulong::from(features),
        )
    })
}

fn set_interface(fd: &OwnedFd, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: `ifreq` is plain old data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // The flags are a 16-bit set; EXCL is its top bit, so the sign is of no meaning.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq` through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })
}

fn interface_name(fd: &OwnedFd) -> io::Result<String> {
    // SAFETY: `ifreq` is plain old data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq` through the pointer, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })?;
    // SAFETY: the kernel writes a NUL-terminated name of at most IFNAMSIZ bytes with the NUL.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    Ok(name.to_string_lossy().into_owned())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets MTU and addresses, then sets the interface up.
async fn configure(config: &TunConfig) -> Result<(), TunError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| system("open netlink for", config, source))?;
    // Ends by itself when `handle`, the only one, is dropped at the end of this function.
    tokio::spawn(connection);
    let index = interface_index(&config.name).map_err(|source| system("find", config, source))?;
    let mtu = LinkUnspec::new_with_index(index).mtu(config.mtu.into());
    handle
        .link()
        .set(mtu.build())
        .execute()
        .await
        .map_err(|error| TunError::MtuRefused {
            name: config.name.clone(),
            mtu: config.mtu,
            source: crate::net::netlink_error(error),
        })?;
    limit_super_packets(config, &handle, index).await;
    add_addresses(config, &handle, index).await?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(|error| system("set up", config, crate::net::netlink_error(error)))
}

/// Without it all works, with super-packets that may need two trains.
async fn limit_super_packets(config: &TunConfig, handle: &Handle, index: u32) {
    let Some(most) = config.super_packet_segments else {
        return;
    };
    let limit = LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::GsoMaxSegs(most.into()));
    if let Err(error) = handle.link().set(limit.build()).execute().await {
        let error = crate::net::netlink_error(error);
        tracing::debug!(%error, "the kernel does not limit super-packets");
    }
}

async fn add_addresses(config: &TunConfig, handle: &Handle, index: u32) -> Result<(), TunError> {
    for address in &config.addresses {
        handle
            .address()
            .add(index, address.addr(), address.prefix_len())
            .execute()
            .await
            .map_err(|error| TunError::AddressRefused {
                name: config.name.clone(),
                address: *address,
                source: crate::net::netlink_error(error),
            })?;
    }
    Ok(())
}

fn interface_index(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

fn system(operation: &'static str, config: &TunConfig, source: io::Error) -> TunError {
    TunError::System {
        operation,
        name: config.name.clone(),
        source,
    }
}
