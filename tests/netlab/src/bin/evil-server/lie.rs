//! Which lies are there, and what becomes of a message or an answer by each?

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context as _, bail};
use data_encoding::BASE64;
use mesh_wire::problem::Problem;
use serde_json::{Value, json};

use crate::stranger;

/// What is lied about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// All is passed on as it is.
    Nothing,
    /// Everybody has the liar's session key.
    SwapKeys,
    /// Two more members, who have signed their records well.
    Strangers,
    /// Behind each record that changes comes the oldest one that is known.
    OldRecords,
    /// Each member has the address of the next.
    SwapAddresses,
    /// A bit of each letter is turned.
    AlterLetters,
    /// Revocations are taken, and told to nobody.
    HideRevocations,
    /// The member with the least id does not hear of the one with the greatest.
    Split,
    /// As many members as fit into the longest message, three times, each with a record that it signed.
    Crowd,
    /// One message of 100 MB.
    LongMessage,
    /// Lists inside each other, 10,000 deep.
    DeepMessage,
    /// Each record has two session keys, the first of which is the liar's.
    DoubleKeys,
    /// The longest messages, full of the smallest values.
    Crumbs,
    /// Everybody is seen elsewhere.
    WrongStun,
    /// It is another year, and it always was.
    WrongTime,
    /// Every request fails.
    Errors,
    /// Nobody is a member, and nobody comes.
    EmptyList,
    /// An error comes behind the list.
    ErrorMessage,
    /// Each answer and each message comes five seconds late.
    Slow,
    /// All requests are to be made elsewhere.
    Redirect(u16),
    /// The event connection is to be made elsewhere.
    RedirectEvents(u16),
}

impl FromStr for Lie {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, status) = text.split_once('=').unwrap_or((text, "0"));
        let status = status.parse().context("the status is no number")?;
        Ok(match name {
            "nothing" => Self::Nothing,
            "swap-keys" => Self::SwapKeys,
            "strangers" => Self::Strangers,
            "old-records" => Self::OldRecords,
            "swap-addresses" => Self::SwapAddresses,
            "alter-letters" => Self::AlterLetters,
            "hide-revocations" => Self::HideRevocations,
            "split" => Self::Split,
            "crowd" => Self::Crowd,
            "long-message" => Self::LongMessage,
            "deep-message" => Self::DeepMessage,
            "double-keys" => Self::DoubleKeys,
            "crumbs" => Self::Crumbs,
            "wrong-stun" => Self::WrongStun,
            "wrong-time" => Self::WrongTime,
            "errors" => Self::Errors,
            "empty-list" => Self::EmptyList,
            "error-message" => Self::ErrorMessage,
            "slow" => Self::Slow,
            "redirect" => Self::Redirect(status),
            "redirect-events" => Self::RedirectEvents(status),
            _ => bail!("there is no lie {name:?}"),
        })
    }
}

/// A session key that the liar has: 32 times 7.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// What an error says.
pub(crate) const BROKEN: &str = "everything is broken";
/// What a daemon takes at most.
const LONGEST: usize = 8 * 1024 * 1024;

/// So many signatures take seconds: they are made once, before anybody waits.
static CROWD: LazyLock<String> = LazyLock::new(|| stranger::crowd(LONGEST));

/// Who tells it.
pub(crate) struct Liar {
    pub(crate) lie: Lie,
    /// The first record of each node that was passed on.
    oldest: Mutex<BTreeMap<String, Value>>,
}

impl Liar {
    pub(crate) fn new(lie: Lie) -> Self {
        if lie == Lie::Crowd {
            LazyLock::force(&CROWD);
        }
        Self {
            lie,
            oldest: Mutex::default(),
        }
    }

    /// Alters the answer to a request.
    pub(crate) fn about_rest(&self, answer: &mut Value) {
        if answer["peers"].is_array() {
            self.about_list(answer);
        } else if self.lie == Lie::WrongTime && answer["created_at"].is_number() {
            answer["created_at"] = u64::MAX.into();
        } else if self.lie == Lie::WrongTime && answer["last_seen"].is_number() {
            answer["last_seen"] = 0.into();
        }
    }

    /// What `viewer` is told in place of a message of the real server, and a line that says so.
    pub(crate) fn about_message(&self, viewer: &str, text: &str) -> (Vec<String>, String) {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return (vec![text.to_owned()], format!("told {viewer}: no JSON"));
        };
        let kind = message["type"].as_str().unwrap_or_default().to_owned();
        let truth = message.to_string();
        let told = self.in_place_of(viewer, message);
        let verb = match told == [truth] {
            true => "told",
            false => "lied to",
        };
        (told, format!("{verb} {viewer}: {kind}"))
    }

    fn in_place_of(&self, viewer: &str, mut message: Value) -> Vec<String> {
        if self.lie == Lie::WrongTime && message["revision"].is_number() {
            message["revision"] = u64::MAX.into();
        }
        let before = match message["type"].as_str() {
            Some("snapshot") => {
                self.about_list(&mut message);
                before_a_list(self.lie)
            }
            Some("peer_joined" | "peer_updated") if self.is_hidden(viewer, &message) => {
                return Vec::new();
            }
            Some("peer_joined" | "peer_updated") if self.lie == Lie::EmptyList => {
                return Vec::new();
            }
            Some("peer_joined" | "peer_updated") => return self.about_change(message),
            Some("revoked" | "peer_left") if self.lie == Lie::HideRevocations => return Vec::new(),
            Some("signal") if self.lie == Lie::AlterLetters => {
                let letter = message["payload"].as_str().unwrap_or_default();
                let mut bytes = BASE64.decode(letter.as_bytes()).unwrap_or_default();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                message["payload"] = BASE64.encode(&bytes).into();
                Vec::new()
            }
            Some(_) | None => Vec::new(),
        };
        let mut told = before;
        let text = message.to_string();
        told.push(if self.lie == Lie::DoubleKeys {
            doubled(&text)
        } else {
            text
        });
        if message["type"] == "snapshot" {
            told.extend(self.behind_a_list(viewer));
        }
        told
    }

    /// What a member is told behind the list.
    fn behind_a_list(&self, viewer: &str) -> Option<String> {
        if self.lie == Lie::EmptyList {
            // A daemon that skips this has read the list before it.
            return Some(json!({"type": "of no kind"}).to_string());
        }
        if self.lie == Lie::ErrorMessage {
            let problem = Problem::new(500, "database", BROKEN);
            return Some(json!({"type": "error", "problem": problem}).to_string());
        }
        let (least, greatest) = self.ends()?;
        let is_misled = self.lie == Lie::Split && viewer == least;
        let left = json!({"type": "peer_left", "revision": 1, "node_id": greatest});
        is_misled.then(|| left.to_string())
    }

    /// Whether this member shall not hear of that change.
    fn is_hidden(&self, viewer: &str, message: &Value) -> bool {
        let Some((least, greatest)) = self.ends().filter(|_| self.lie == Lie::Split) else {
            return false;
        };
        viewer == least && message["peer"]["node_id"] == *greatest
    }

    /// The members with the least and the greatest id.
    fn ends(&self) -> Option<(String, String)> {
        let known = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        let (least, _) = known.first_key_value()?;
        let (greatest, _) = known.last_key_value()?;
        Some((least.clone(), greatest.clone()))
    }

    fn about_list(&self, list: &mut Value) {
        let Some(peers) = list["peers"].as_array_mut() else {
            return;
        };
        for peer in peers.iter_mut() {
            self.about_peer(peer);
        }
        if self.lie == Lie::EmptyList {
            peers.clear();
            return;
        }
        if self.lie == Lie::SwapAddresses && !peers.is_empty() {
            let addresses: Vec<Value> = peers.iter().map(|it| it["virtual_ips"].clone()).collect();
            for (peer, address) in peers.iter_mut().zip(addresses.iter().cycle().skip(1)) {
                peer["virtual_ips"] = address.clone();
            }
        }
        if self.lie == Lie::Strangers {
            peers.extend(stranger::both());
        }
    }

    fn about_peer(&self, peer: &mut Value) {
        let node = peer["node_id"].as_str().unwrap_or_default();
        let mut oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        oldest
            .entry(node.to_owned())
            .or_insert_with(|| peer.clone());
        drop(oldest);
        if self.lie == Lie::SwapKeys {
            peer["wireguard_key"] = KEY.into();
        }
        if self.lie == Lie::WrongTime {
            peer["last_seen"] = u64::MAX.into();
        }
    }

    /// A member that has come or changed.
    fn about_change(&self, mut message: Value) -> Vec<String> {
        self.about_peer(&mut message["peer"]);
        let mut told = vec![message.to_string()];
        if self.lie == Lie::OldRecords {
            let node = message["peer"]["node_id"].as_str();
            let oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
            message["peer"] = oldest[node.unwrap_or_default()].clone();
            told.push(message.to_string());
        }
        if self.lie == Lie::Strangers {
            let come =
                |peer| json!({"type": "peer_joined", "revision": 1, "peer": peer}).to_string();
            told.extend(stranger::both().into_iter().map(come));
        }
        told
    }
}

/// Messages that come before a list.
fn before_a_list(lie: Lie) -> Vec<String> {
    match lie {
        Lie::Crowd => vec![CROWD.clone(); 3],
        Lie::LongMessage => vec![crumbs("x", 50_000_000)],
        Lie::DeepMessage => {
            let deep = |name: &str| {
                let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
                format!(r#"{{"type":"snapshot","revision":1,"{name}":{open}{close}}}"#)
            };
            vec![deep("peers"), deep("more"), "[".repeat(10_000)]
        }
        Lie::Crumbs => ["peers", "revocations", "more", "payload"]
            .map(|name| crumbs(name, LONGEST / 2 - 50))
            .into(),
        Lie::Nothing
        | Lie::SwapKeys
        | Lie::Strangers
        | Lie::OldRecords
        | Lie::SwapAddresses
        | Lie::AlterLetters
        | Lie::HideRevocations
        | Lie::Split
        | Lie::DoubleKeys
        | Lie::WrongStun
        | Lie::WrongTime
        | Lie::Errors
        | Lie::EmptyList
        | Lie::ErrorMessage
        | Lie::Slow
        | Lie::Redirect(_)
        | Lie::RedirectEvents(_) => Vec::new(),
    }
}

/// A list with `count` of the smallest values, 2 bytes each; strings where strings are due.
fn crumbs(name: &str, count: usize) -> String {
    let crumb = if name == "revocations" {
        r#""","""#
    } else {
        "0,0"
    };
    let count = count * 2 / (crumb.len() + 1);
    let list = vec![crumb; count].join(",");
    format!(r#"{{"type":"snapshot","revision":1,"{name}":[{list}]}}"#)
}

/// One more session key before each.
fn doubled(text: &str) -> String {
    let name = r#""wireguard_key":"#;
    text.replace(name, &format!(r#"{name}"{KEY}",{name}"#))
}
