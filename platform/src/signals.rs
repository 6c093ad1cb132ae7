//! When does the user, or the system, want this process to end?

use std::io;

/// Starts to listen for the requests to end, and returns what waits for the first one: SIGINT and SIGTERM on Unix,
/// Ctrl-C elsewhere. Must be called inside a tokio runtime; from then on these signals no longer kill the process.
pub fn termination() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without a handler the system ends the process itself.
                std::future::pending::<()>().await;
            }
        })
    }
}
