//! When did the host's addresses or interfaces change? Wi-Fi to cable, a new lease, a modem that
//! comes up: each is a reason to look for candidates anew.

use super::NetError;
use std::time::Duration;

/// A burst of changes ends when nothing happened for this long: one lease renewal gives several
/// messages within a few milliseconds, and who moves waits for its end.
const QUIET: Duration = Duration::from_millis(20);

/// A burst is reported after this long even if it goes on.
const PATIENCE: Duration = Duration::from_millis(200);

/// Tells of changes to addresses, links and routes. On Linux the kernel notifies (rtnetlink groups link,
/// IPv4 and IPv6 addresses and routes: an address is of use once a route leads out); elsewhere the addresses are compared every few seconds.
pub struct Monitor {
    source: system::Source,
    /// A burst has begun and was not yet reported.
    is_burst: bool,
}

impl Monitor {
    /// Starts watching; changes from now on count. Must be called inside a tokio runtime.
    pub async fn start() -> Result<Self, NetError> {
        Ok(Self {
            source: system::Source::start().await?,
            is_burst: false,
        })
    }

    /// Waits for a change, then until the burst is over (at most a second), so that one change of
    /// network is one return. Cancel safe: no change is lost when the future is dropped. Fails when
    /// the system stops telling.
    pub async fn changed(&mut self) -> Result<(), NetError> {
        if !self.is_burst {
            self.source.next().await?;
            self.is_burst = true;
        }
        let burst = async {
            while let Ok(next) = tokio::time::timeout(QUIET, self.source.next()).await {
                next?;
            }
            Ok(())
        };
        // Out of patience is no error: the change is real, the burst merely goes on.
        let result = tokio::time::timeout(PATIENCE, burst)
            .await
            .unwrap_or(Ok(()));
        self.is_burst = false;
        result
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::NetError;
    use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
    use netlink_packet_route::RouteNetlinkMessage;
    use rtnetlink::{MulticastGroup, packet_core::NetlinkMessage, sys::SocketAddr};
    use std::io;

    pub(super) struct Source {
        messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
        connection: tokio::task::JoinHandle<()>,
        /// The connection ends with its last handle.
        _handle: rtnetlink::Handle,
    }

    impl Source {
        #[allow(clippy::unused_async, reason = "the same signature on all systems")]
        pub(super) async fn start() -> Result<Self, NetError> {
            let groups = [
                MulticastGroup::Link,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
                MulticastGroup::Ipv4Route,
                MulticastGroup::Ipv6Route,
            ];
            let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
                .map_err(|source| NetError::System {
                    operation: "watch the network by netlink",
                    source,
                })?;
            Ok(Self {
                messages,
                connection: tokio::spawn(connection),
                _handle: handle,
            })
        }

        /// Any message is a change, one that tells of lost messages too.
        pub(super) async fn next(&mut self) -> Result<(), NetError> {
            match self.messages.next().await {
                Some(_) => Ok(()),
                None => Err(NetError::System {
                    operation: "watch the network by netlink",
                    source: io::ErrorKind::BrokenPipe.into(),
                }),
            }
        }
    }

    impl Drop for Source {
        fn drop(&mut self) {
            self.connection.abort();
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::NetError;
    use crate::net::addresses::{LocalAddress, local_addresses};
    use std::time::Duration;

    /// Often enough that a roaming laptop is back before its user wonders, seldom enough to cost
    /// nothing.
    const INTERVAL: Duration = Duration::from_secs(3);

    pub(super) struct Source {
        known: Vec<LocalAddress>,
    }

    impl Source {
        pub(super) async fn start() -> Result<Self, NetError> {
            Ok(Self {
                known: local_addresses("").await?,
            })
        }

        pub(super) async fn next(&mut self) -> Result<(), NetError> {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let now = local_addresses("").await?;
                if now != self.known {
                    self.known = now;
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::testing::{add_address, add_interface, in_namespace};
    use tokio::time::timeout;

    #[test]
    fn a_burst_of_changes_is_reported_once() {
        in_namespace(async || {
            let mut monitor = Monitor::start().await.expect("start");
            let quiet = timeout(Duration::from_millis(300), monitor.changed()).await;
            quiet.expect_err("nothing has changed yet");
            add_interface("lan0").await;
            add_address("lan0", "192.168.7.2", 24).await;
            let change = timeout(Duration::from_secs(5), monitor.changed()).await;
            change.expect("in time").expect("a change");
            // IPv6 duplicate address detection may still follow; after that all is quiet.
            while let Ok(more) = timeout(Duration::from_secs(3), monitor.changed()).await {
                more.expect("a change");
            }
            add_address("lan0", "192.168.8.2", 24).await;
            let change = timeout(Duration::from_secs(5), monitor.changed()).await;
            change.expect("in time").expect("a change");
            let quiet = timeout(Duration::from_millis(500), monitor.changed()).await;
            quiet.expect_err("one change, one report");
            add_address("lan0", "192.168.9.2", 24).await;
            // Dropped in the middle of the burst.
            let early = timeout(Duration::from_millis(5), monitor.changed()).await;
            early.expect_err("the burst is not over");
            let change = timeout(Duration::from_secs(5), monitor.changed()).await;
            change.expect("in time").expect("the change is not lost");
        });
    }
}
