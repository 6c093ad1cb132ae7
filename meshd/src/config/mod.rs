//! What is the daemon told to do? From a YAML file and the command line to [`Settings`].
//!
//! [`load()`] reads the file into a [`RawConfig`], which is what it says; [`RawConfig::overlay`] puts the command
//! line above it and [`RawConfig::remember`] the state directory below it; [`Settings::parse`] is the one
//! function between that and what the program uses.

mod keys;
mod load;
mod overrides;
mod place;
mod raw;
mod settings;
mod unbuilt;
mod values;
mod variables;

pub use self::{
    keys::{KEYS, Key},
    load::{MAX_FILE, load, load_if_present, parse_text},
    overrides::{Overrides, Remembered, name_from_host},
    place::{At, Finding, Place, Text},
    raw::RawConfig,
    settings::{
        Cipher, ConnectionSettings, DeviceSettings, LogFormat, LogSettings, Settings,
        ShareSettings, Trust, TurnSettings,
    },
    unbuilt::{NotBuilt, not_built_features, not_built_keys},
    values::{StunServer, TurnTransport, is_usable_range},
};

/// A complete, commented configuration of this version: what `meshd config example` prints.
pub const EXAMPLE: &str = include_str!("../../examples/meshd.yaml");
