//! How is a statement taken apart, byte after byte?

use std::net::IpAddr;

use ipnet::IpNet;

use crate::DecodeError;

/// What is left of the bytes of a `kind`.
pub(crate) struct Reader<'a> {
    kind: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(kind: &'static str, bytes: &'a [u8]) -> Self {
        Self { kind, rest: bytes }
    }

    pub(crate) fn error(&self, why: &'static str) -> DecodeError {
        DecodeError::new(self.kind, why)
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What was read since `begin` was left.
    pub(crate) fn since(&self, begin: &'a [u8]) -> &'a [u8] {
        let len = begin.len() - self.rest.len();
        begin.get(..len).unwrap_or_default()
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.rest {
            [] => Ok(()),
            [..] => Err(self.error("has something behind its end")),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.error("is cut short"))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.error("is cut short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes with their length before them.
    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let len = usize::from(self.byte()?);
        let bytes = self.bytes(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.error("has a name that is not UTF-8"))
    }

    pub(crate) fn address(&mut self) -> Result<IpAddr, DecodeError> {
        match self.byte()? {
            4 => self.array::<4>().map(IpAddr::from),
            6 => self.array::<16>().map(IpAddr::from),
            _ => Err(self.error("has an address that is neither IPv4 nor IPv6")),
        }
    }

    pub(crate) fn range(&mut self) -> Result<IpNet, DecodeError> {
        let address = self.address()?;
        let prefix = self.byte()?;
        IpNet::new(address, prefix)
            .ok()
            .filter(|range| *range == range.trunc())
            .ok_or_else(|| self.error("has a range with a wrong prefix"))
    }
}

/// The inverse of [`Reader::address`].
pub(crate) fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            bytes.push(4);
            bytes.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(6);
            bytes.extend_from_slice(&address.octets());
        }
    }
}
