//! Who can take part, and as what is it started?

use std::path::PathBuf;

use serde_json::{Map, Value};

/// One line of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No tunnel: the path itself.
    Bare,
    Meshd(Variant),
    WireGuard(WireGuard),
}

/// Daemons that are configured over the WireGuard user-space protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireGuard {
    Gotatun,
    Boringtun,
    Go,
}

/// A meshd with a configuration, and perhaps a build, of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    name: Option<String>,
    /// The content of its configuration file, `Null` for none.
    pub(crate) config: Value,
    /// Where its programs are, if not where this workspace builds them.
    pub(crate) build: Option<PathBuf>,
    /// Whether its members reach each other through the TURN server alone.
    pub(crate) relayed: bool,
}

impl Contestant {
    pub(crate) fn new(kind: Kind) -> Self {
        let name = match &kind {
            Kind::Bare => "bare",
            Kind::Meshd(variant) => variant.name.as_deref().unwrap_or("meshd"),
            Kind::WireGuard(WireGuard::Gotatun) => "gotatun",
            Kind::WireGuard(WireGuard::Boringtun) => "boringtun",
            Kind::WireGuard(WireGuard::Go) => "wireguard-go",
        };
        Self {
            name: name.to_owned(),
            kind,
        }
    }

    /// Whether there is anything beside the kernel.
    pub(crate) fn has_daemons(&self) -> bool {
        match self.kind {
            Kind::Bare => false,
            Kind::Meshd(_) | Kind::WireGuard(_) => true,
        }
    }
}

impl Kind {
    /// What `--peers` takes.
    pub(crate) const NAMES: [&str; 6] = [
        "bare",
        "meshd",
        "meshd-turn",
        "gotatun",
        "boringtun",
        "wireguard-go",
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let kinds = [
            Self::Bare,
            Self::Meshd(Variant::default()),
            Self::Meshd(Variant::relayed()),
            Self::WireGuard(WireGuard::Gotatun),
            Self::WireGuard(WireGuard::Boringtun),
            Self::WireGuard(WireGuard::Go),
        ];
        let mut kinds = kinds.into_iter();
        kinds.find(|kind| Contestant::new(kind.clone()).name == name)
    }
}

impl Variant {
    /// What is relayed, with nothing else of its own.
    fn relayed() -> Self {
        Self {
            name: Some("meshd-turn".to_owned()),
            relayed: true,
            ..Self::default()
        }
    }

    /// Reads `NAME:KEY=VALUE,...`. A key has dots between its levels; a value that is no JSON
    /// number, boolean or null is a string.
    ///
    /// # Errors
    /// What is wrong with the text, for the command line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, pairs) = text
            .split_once(':')
            .filter(|(name, pairs)| !name.is_empty() && !pairs.is_empty())
            .ok_or("a variant is written NAME:KEY=VALUE,...")?;
        // It becomes part of the laboratory's path.
        if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return Err(format!("{name:?} is not made of letters, digits and -_."));
        }
        let mut variant = Self {
            name: Some(name.to_owned()),
            ..Self::default()
        };
        for pair in pairs.split(',') {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))?;
            if key == "build" {
                variant.build = Some(PathBuf::from(value));
            } else if key == "path" {
                variant.relayed = match value {
                    "turn" => true,
                    "direct" => false,
                    _ => return Err(format!("{value:?} is no path: turn or direct")),
                };
            } else {
                set(&mut variant.config, key, value)?;
            }
        }
        Ok(variant)
    }
}

/// Puts a value at a path of keys, making the levels above it.
fn set(config: &mut Value, path: &str, value: &str) -> Result<(), String> {
    let mut place = config;
    for key in path.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = place
            .as_object_mut()
            .ok_or_else(|| format!("{path} lies below a key that has a value"))?
            .entry(key)
            .or_insert(Value::Null);
    }
    if !place.is_null() {
        return Err(format!("{path} is given twice"));
    }
    *place = match serde_json::from_str(value) {
        Ok(scalar @ (Value::Null | Value::Bool(_) | Value::Number(_))) => scalar,
        Ok(Value::String(_) | Value::Array(_) | Value::Object(_)) | Err(_) => {
            Value::String(value.to_owned())
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_name_names_its_contestant() {
        for name in Kind::NAMES {
            let contestant = Contestant::new(Kind::named(name).unwrap());
            assert_eq!(contestant.name, name);
        }
        assert_eq!(Kind::named("aes"), None);
    }

    #[test]
    fn a_variant_is_a_name_a_configuration_and_perhaps_a_build() {
        let text = "aes:mesh.connection.cipher=auto,mesh.device.mtu=1300,mesh.enabled=true";
        let variant = Variant::parse(text).unwrap();
        let expected = json!({"mesh": {
            "connection": {"cipher": "auto"}, "device": {"mtu": 1300}, "enabled": true
        }});
        assert_eq!(variant.config, expected);
        assert_eq!(Contestant::new(Kind::Meshd(variant)).name, "aes");

        let variant = Variant::parse("old:build=/src/old/target/release,path=turn").unwrap();
        assert_eq!((&variant.config, variant.relayed), (&Value::Null, true));
        assert_eq!(
            variant.build,
            Some(PathBuf::from("/src/old/target/release"))
        );
    }

    #[test]
    fn what_is_no_variant_is_refused() {
        for text in [
            "aes",
            ":a=b",
            "aes:",
            "aes:a",
            "aes:a=1,a=2",
            "aes:a=1,a.b=2",
            "aes:path=relay",
        ] {
            assert!(Variant::parse(text).is_err(), "{text}");
        }
    }
}
