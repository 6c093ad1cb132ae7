//! How much may one client, or all of them, ask of the server? Every number is a judgement and says why.

use std::time::Duration;

/// A person types no longer header block, and neither does a browser: 16 KiB with the request line.
pub(crate) const HEADER_BYTES: usize = 16 * 1024;
/// Browsers send about 20 header fields.
pub(crate) const HEADERS: usize = 64;
/// Path and query together: holds a path of 4096 bytes with half of them escaped.
pub(crate) const URL_BYTES: usize = 8 * 1024;
/// From the accept or the first byte of a later request until its header block is complete.
pub(crate) const HEADER_TIME: Duration = Duration::from_secs(10);
/// Between two requests of one connection: longer than a person reads a listing is not worth a socket.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(60);
/// A reader that takes less than [`DRAIN_BYTES`] in this time holds memory for nothing.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(30);
/// 1 KiB/s, slower than any link that people still use.
pub(crate) const DRAIN_BYTES: u64 = 30 * 1024;
/// Per member: a browser opens 6, a parallel downloader 16. All strangers together count as one member.
pub(crate) const CONNECTIONS_PER_VISITOR: usize = 64;
/// For everyone: with two 256 KiB blocks each, 256 MiB at the very worst.
pub(crate) const CONNECTIONS: usize = 512;
/// Blocking file operations at one time, of the 512 threads that the runtime has for the whole daemon.
pub(crate) const FILE_THREADS: usize = 64;
/// How long running transfers may go on after a shutdown was asked for.
pub(crate) const SHUTDOWN_TIME: Duration = Duration::from_secs(3);
