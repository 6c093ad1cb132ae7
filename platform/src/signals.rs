//! When does the user, or the system, want this process to end?

use std::io;

/// Starts to listen for the requests to end, and returns what waits for the first one: SIGINT, SIGTERM and SIGHUP on Unix,
/// Ctrl-C elsewhere. Must be called inside a tokio runtime; from then on these signals no longer kill the process. SIGHUP stays
/// ignored where whoever started the process ignores it, as `nohup` does.
pub fn termination() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = match is_ignored(libc::SIGHUP)? {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(async move {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hung_up => {}
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

#[cfg(unix)]
fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one to where it is told.
    let done = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so it has written all of it.
    let action = unsafe { action.assume_init() };
    Ok(action.sa_sigaction == libc::SIG_IGN)
}
