//! Which keys ask for something that this version cannot do?
//!
//! [`ROWS`] is the whole list; building a feature means deleting its row. A value that only states what this
//! version does anyway (`relay_enabled: false`) is accepted.

use std::fmt;

use super::{place::Text, raw::RawConfig};

/// A key of the file that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotBuilt {
    /// First and last line of what has to go, counted from 1; 0 for a value that stands in no file.
    pub lines: (u64, u64),
    /// The key, from the top level.
    pub key: String,
    /// What it asks for.
    pub feature: &'static str,
}

impl NotBuilt {
    /// A refusal of `key`, which stands on `lines`.
    pub fn new(lines: (u64, u64), key: impl Into<String>, feature: &'static str) -> Self {
        Self {
            lines,
            key: key.into(),
            feature,
        }
    }
}

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lines {
            (first, last) if first == last => write!(f, "line {first}: ")?,
            (first, last) => write!(f, "lines {first}-{last}: ")?,
        }
        write!(f, "{} ({})", self.key, self.feature)
    }
}

/// One key that is not built.
struct Row {
    /// The key, as in the key table.
    key: &'static str,
    /// What it asks for.
    feature: &'static str,
    /// The places where the file asks for it.
    asked: fn(&RawConfig) -> Vec<(u64, u64)>,
}

const ROWS: &[Row] = &[
    Row {
        key: "mesh.device.type",
        feature: "`tap`: Ethernet frames",
        asked: |raw| when(&raw.mesh.device.kind, |kind| kind == "tap"),
    },
    Row {
        key: "mesh.device.mac_address",
        feature: "the hardware address of a `tap` device",
        asked: |raw| when(&raw.mesh.device.mac_address, |mac| !mac.is_empty()),
    },
    Row {
        key: "mesh.connection.direct_connect",
        feature: "`false`: no direct paths",
        asked: |raw| when(&raw.mesh.connection.direct_connect, |text| text == "false"),
    },
    Row {
        key: "mesh.connection.prefer_direct",
        feature: "choosing between direct and relayed paths",
        asked: |raw| when(&raw.mesh.connection.prefer_direct, |_| true),
    },
    Row {
        key: "shares[].rw",
        feature: "`true`: writing to a share",
        asked: writable_shares,
    },
    Row {
        key: "api.allow_remote_control",
        feature: "`true`: the API for other machines",
        asked: |raw| when(&raw.api.allow_remote_control, is_true),
    },
    Row {
        key: "dns.enabled",
        feature: "`true`: finding members by name",
        asked: |raw| when(&raw.dns.enabled, is_true),
    },
];

/// Everything in `raw` that this version cannot do, in order of line.
pub fn not_built_keys(raw: &RawConfig) -> Vec<NotBuilt> {
    let mut keys: Vec<NotBuilt> = ROWS
        .iter()
        .flat_map(|row| {
            let places = (row.asked)(raw).into_iter();
            places.map(|lines| NotBuilt::new(lines, row.key, row.feature))
        })
        .collect();
    keys.sort_by_key(|key| key.lines);
    keys
}

/// The keys of the table with what they ask for: for the manual.
pub fn not_built_features() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().map(|row| (row.key, row.feature))
}

fn when(text: &Option<Text>, asks: impl Fn(&str) -> bool) -> Vec<(u64, u64)> {
    let text = text.iter().filter(|text| asks(&text.value));
    text.map(|text| (text.line(), text.line())).collect()
}

fn is_true(text: &str) -> bool {
    text == "true"
}

fn writable_shares(raw: &RawConfig) -> Vec<(u64, u64)> {
    let shares = raw.shares.iter();
    shares
        .flat_map(|share| when(&share.value.rw, is_true))
        .collect()
}
