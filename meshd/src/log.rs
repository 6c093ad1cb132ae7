//! Where do log lines go, and how many? To standard error, so that standard output holds only what was asked for.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, LogSettings};

/// Sets the log up, once per process. `MESHD_LOG`, levels by target such as `info,meshd::discovery=debug`, wins over the
/// settings.
pub fn init(settings: &LogSettings) {
    let level = settings.level.to_string().to_lowercase();
    // Libraries speak when something is wrong, or not at all.
    let default = format!("{level},sqlx=warn");
    let wanted = std::env::var("MESHD_LOG").unwrap_or_default();
    let parsed = wanted
        .parse::<Targets>()
        .ok()
        .filter(|_| !wanted.is_empty());
    let filter = parsed.unwrap_or_else(|| default.parse().expect("our own levels are well-formed"));
    // These would log ICE passwords, and requests with their tokens.
    let secretive = ["is", "hyper", "tungstenite", "tokio_tungstenite"];
    let filter = filter.with_targets(secretive.map(|target| (target, LevelFilter::WARN)));
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match settings.format {
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    // Colours are for eyes: in a file or a journal they are noise.
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(std::io::stderr))
            .try_init(),
    };
    if let Err(error) = installed {
        // Only a test that runs two daemons in one process gets here.
        tracing::debug!(%error, "the log was set up before");
    }
}
