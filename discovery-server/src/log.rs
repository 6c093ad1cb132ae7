//! Where do log lines go, how many, and in which form? To standard error.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use tracing::{Dispatch, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sets the log up, by default with what an operator should read; `RUST_LOG`, levels by target such as
/// `info,discovery_server=debug`, changes it.
pub(crate) fn init(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let parsed = wanted
        .parse::<Targets>()
        .ok()
        .filter(|_| !wanted.is_empty());
    let filter = parsed.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // These would log message contents, which hold ICE passwords, or requests with their tokens.
    let quiet =
        ["tungstenite", "tokio_tungstenite", "hyper"].map(|target| (target, LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter.with_targets(quiet));
    match format {
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_ansi(io::stderr().is_terminal())
                    .with_writer(io::stderr),
            )
            .init(),
        LogFormat::Json => registry.with(json()).init(),
    }
}

/// Says why the program ends, whatever levels the log has.
pub(crate) fn last_words(format: LogFormat, error: &anyhow::Error) {
    match format {
        LogFormat::Text => {
            // With a closed standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {error:#}");
        }
        LogFormat::Json => {
            let all = Dispatch::new(tracing_subscriber::registry().with(json()));
            tracing::dispatcher::with_default(&all, || tracing::error!("{error:#}"));
        }
    }
}

fn json<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    fmt::layer().json().with_writer(io::stderr)
}
