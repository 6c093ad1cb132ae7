//! Which texts are a good value, and what do they mean?
//!
//! One function per kind of value. An error is the rule, worded to stand behind the key's name, and never holds
//! the value.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::Ipv4Net;
use mesh_wire::{DecodeError, id::check_dns_label};
use sharing::ShareName;
use tracing::Level;
use url::Url;

use super::settings::{Cipher, LogFormat, Trust};

/// 576 is what every IPv4 host must accept (RFC 791 section 3.1). 8908 is what fits a jumbo frame of 9000 bytes
/// behind a WireGuard message (32), a relay header and tag (16 + 16) and IPv4 and UDP (28).
pub(super) const MTU: RangeInclusive<u16> = 576..=8908;

/// Ranges for private use: RFC 1918, and RFC 6598 for the last.
const PRIVATE_RANGES: [&str; 4] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
];

/// The default port of STUN (RFC 8489 section 18.6).
const STUN_PORT: u16 = 3478;

/// The kernel's limit on an interface name, without the terminating zero.
const MAX_INTERFACE_NAME: usize = 15;

/// A STUN server to ask for the public address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

type Parsed<T> = Result<T, String>;

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A duration within `range`, such as `250ms`, `30s`, `5m` or `1h`.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Parsed<Duration> {
    const FORM: &str = "must be a duration such as 250ms, 30s, 5m or 1h";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(FORM.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| FORM.to_owned())?;
    let duration = number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .filter(|duration| range.contains(duration));
    duration.ok_or_else(|| format!("must be from {:?} to {:?}", range.start(), range.end()))
}

pub(super) fn mtu(text: &str) -> Parsed<u16> {
    let rule = || format!("must be a number from {} to {}", MTU.start(), MTU.end());
    let mtu: u16 = text.parse().map_err(|_| rule())?;
    if MTU.contains(&mtu) {
        Ok(mtu)
    } else {
        Err(rule())
    }
}

/// A port; 0 means any free one.
pub(super) fn port(text: &str) -> Parsed<u16> {
    text.parse()
        .map_err(|_| "must be a port from 0 (any free one) to 65535".to_owned())
}

/// Threads that move packets: no machine that this is for has more cores to spare.
pub(super) fn threads(text: &str) -> Parsed<usize> {
    let count = text.parse().ok().filter(|count| (1..=16).contains(count));
    count.ok_or_else(|| "must be a number from 1 to 16".to_owned())
}

/// A private IPv4 range without host bits, with room for at least two members.
pub(super) fn cidr(text: &str) -> Parsed<Ipv4Net> {
    let net: Ipv4Net = text
        .parse()
        .map_err(|_| "must be an IPv4 range such as 10.100.0.0/16".to_owned())?;
    if net.addr() != net.network() {
        return Err(format!(
            "must not have host bits set; the range that holds this address is {}",
            net.trunc()
        ));
    }
    if !is_private(net) {
        return Err(format!(
            "must lie in a range for private use: {}",
            PRIVATE_RANGES.join(", ")
        ));
    }
    if net.prefix_len() > 30 {
        return Err("must have room for two members: a prefix of /30 or shorter".to_owned());
    }
    Ok(net)
}

/// Whether a network may have this range: a proper one, for private use, with room for two members.
pub fn is_usable_range(net: Ipv4Net) -> bool {
    net.addr() == net.network() && is_private(net) && net.prefix_len() <= 30
}

fn is_private(net: Ipv4Net) -> bool {
    PRIVATE_RANGES
        .iter()
        .filter_map(|range| range.parse::<Ipv4Net>().ok())
        .any(|range| range.contains(&net))
}

/// `Ok` for an interface name that the kernel takes (`dev_valid_name`).
pub(super) fn interface_name(text: &str) -> Parsed<String> {
    if text.is_empty() || text.len() > MAX_INTERFACE_NAME {
        return Err(format!("must have 1 to {MAX_INTERFACE_NAME} bytes"));
    }
    if text == "." || text == ".." {
        return Err("must not be . or ..".to_owned());
    }
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
    if !text.bytes().all(allowed) {
        return Err("must not contain spaces, '/', ':', '%' or anything but ASCII".to_owned());
    }
    Ok(text.to_owned())
}

/// `tun` or `tap`; whether it is built is not asked here.
pub(super) fn device_type(text: &str) -> Parsed<()> {
    match text {
        "tun" | "tap" => Ok(()),
        _ => Err("must be tun or tap".to_owned()),
    }
}

/// Nothing, or six octets in hexadecimal.
pub(super) fn mac_address(text: &str) -> Parsed<()> {
    let octet = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if text.is_empty() || (text.split(':').count() == 6 && text.split(':').all(octet)) {
        Ok(())
    } else {
        Err("must be empty or six octets such as 02:00:5e:10:00:01".to_owned())
    }
}

/// How many links a way may have: a path on the wire names seven members between its ends at most.
pub(super) fn hops(text: &str) -> Parsed<u8> {
    let hops = text.parse().ok().filter(|hops| (1..=8).contains(hops));
    hops.ok_or_else(|| "must be a number from 1 to 8".to_owned())
}

/// How a TURN server of the configuration is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnTransport {
    /// Over UDP, and where that does not pass, over TCP.
    Any,
    /// Over UDP alone.
    Udp,
    /// Over TCP alone.
    Tcp,
    /// Over TLS on TCP.
    Tls,
}

/// Of `turns:` (RFC 7065 section 3.1, RFC 8656 section 3).
const TURNS_PORT: u16 = 5349;

/// `turn:HOST[:PORT]` or `turns:HOST[:PORT]`, maybe with `?transport=` (RFC 7065).
pub(super) fn turn_url(text: &str) -> Parsed<(StunServer, TurnTransport)> {
    let wrong = || {
        "must be turn:HOST or turn:HOST:PORT, maybe with ?transport=udp or ?transport=tcp, or turns:HOST or turns:HOST:PORT".to_owned()
    };
    let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (address, query) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    let (transport, port) = match (scheme, query) {
        ("turn", None) => (TurnTransport::Any, STUN_PORT),
        ("turn", Some("transport=udp")) => (TurnTransport::Udp, STUN_PORT),
        ("turn", Some("transport=tcp")) => (TurnTransport::Tcp, STUN_PORT),
        ("turns", None | Some("transport=tcp")) => (TurnTransport::Tls, TURNS_PORT),
        _ => return Err(wrong()),
    };
    let server = server_at(address, port).map_err(|_| wrong())?;
    Ok((server, transport))
}

/// RFC 8489 section 14.3 has fewer than 509 bytes.
pub(super) fn turn_user(text: &str) -> Parsed<String> {
    match text.len() < 509 {
        true => Ok(text.to_owned()),
        false => Err("must have fewer than 509 bytes".to_owned()),
    }
}

/// Anything that says so itself why it could not be read.
pub(super) fn decoded<T: FromStr<Err = DecodeError>>(text: &str) -> Parsed<T> {
    text.parse()
        .map_err(|error: DecodeError| error.why.to_owned())
}

pub(super) fn server(text: &str) -> Parsed<Url> {
    mesh_wire::join_link::parse_server(text).map_err(|error| error.why.to_owned())
}

pub(super) fn host_name(text: &str) -> Parsed<String> {
    check_dns_label("host name", text).map_err(|error| error.why.to_owned())?;
    Ok(text.to_owned())
}

/// `stun:HOST[:PORT]` (RFC 7064), or without the scheme `HOST:PORT`, an address, or a name with a dot.
pub(super) fn stun_server(text: &str) -> Parsed<StunServer> {
    match text.strip_prefix("stun:") {
        Some(rest) => server_at(rest, STUN_PORT),
        // A bare word is more likely a mistake than a host.
        None if text.contains(['.', ':']) => server_at(text, STUN_PORT),
        None => Err(STUN_FORM.to_owned()),
    }
}

const STUN_FORM: &str = "must be stun:HOST or stun:HOST:PORT";

/// `HOST[:PORT]`
fn server_at(rest: &str, default_port: u16) -> Parsed<StunServer> {
    let wrong = || STUN_FORM.to_owned();
    let url = Url::parse(&format!("http://{rest}/")).map_err(|_| wrong())?;
    let plain = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().filter(|_| plain && !rest.contains('/'));
    let host = host.ok_or_else(wrong)?;
    if url.port() == Some(0) {
        return Err(wrong());
    }
    // The URL parser drops port 80 as http's own; it is as good as any for STUN.
    let port = if rest.ends_with(":80") {
        Some(80)
    } else {
        url.port()
    };
    Ok(StunServer {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.unwrap_or(default_port),
    })
}

/// A loopback address and port.
pub(super) fn loopback(text: &str) -> Parsed<SocketAddr> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "must be an address and a port such as 127.0.0.1:7082".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(
            "must be a loopback address: whoever reaches the API sees the whole network".to_owned(),
        );
    }
    Ok(address)
}

pub(super) fn log_level(text: &str) -> Parsed<Level> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("must be error, warn, info, debug or trace".to_owned()),
    }
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

pub(super) fn cipher(text: &str) -> Parsed<Cipher> {
    match text {
        "chacha20-poly1305" => Ok(Cipher::ChaCha20Poly1305),
        "auto" => Ok(Cipher::Auto),
        _ => Err("must be chacha20-poly1305 or auto".to_owned()),
    }
}

pub(super) fn trust(text: &str) -> Parsed<Trust> {
    match text {
        "certificates" => Ok(Trust::Certificates),
        "psk" => Ok(Trust::Psk),
        _ => Err("must be certificates or psk".to_owned()),
    }
}

pub(super) fn share_name(text: &str) -> Parsed<ShareName> {
    ShareName::parse(text).map_err(str::to_owned)
}

pub(super) fn absolute_path(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("must be an absolute path: the daemon does not stand where you do".to_owned())
    }
}

/// A member's name, node id or virtual address, or `all`; who it is, is known only when the mesh runs.
pub(super) fn grantee(text: &str) -> Parsed<String> {
    let address = text.parse::<IpAddr>().is_ok();
    if address || check_dns_label("peer", text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("must name a member (its name, id or virtual address) or be all".to_owned())
    }
}

#[cfg(test)]
mod tests;
