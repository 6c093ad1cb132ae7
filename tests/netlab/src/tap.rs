//! How does this process get an Ethernet device of a namespace to read and write frames on?

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// `_IOW('T', 226, int)` of linux/if_tun.h; the libc crate does not have it.
const TUNSETCARRIER: libc::c_ulong = 0x4004_54e2;

/// Makes the TAP device `name` in `namespace`. It exists as long as the file is open; reads and
/// writes do not block and carry one Ethernet frame each, without offloads.
pub(crate) fn open(namespace: &Namespace, name: &str) -> Result<File> {
    // The device appears in the namespace of the thread that opens /dev/net/tun.
    namespace
        .enter(|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/net/tun")?;
            attach(&file, name)?;
            Ok::<_, io::Error>(file)
        })?
        .with_context(|| {
            format!(
                "cannot make the TAP device {name} for a shaped cable. Fix: run as root, with \
                 /dev/net/tun (modprobe tun)"
            )
        })
}

/// Plugs the cable in or pulls it, as the device's owner sees it.
pub(crate) fn set_carrier(tap: &File, on: bool) -> io::Result<()> {
    let value = libc::c_int::from(on);
    #[allow(unsafe_code, reason = "no crate here wraps this ioctl")]
    // SAFETY: the descriptor is open and TUNSETCARRIER reads one int, which lives until return.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETCARRIER, &raw const value) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn attach(file: &File, name: &str) -> io::Result<()> {
    #[allow(unsafe_code, reason = "ifreq has a union and no constructor")]
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "device name is too long",
        ));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    #[allow(unsafe_code, reason = "no crate here wraps this ioctl")]
    // SAFETY: the descriptor is open and TUNSETIFF reads and writes one ifreq, which lives on.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
