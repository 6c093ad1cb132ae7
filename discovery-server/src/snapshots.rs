//! When is a snapshot of the database taken?

use std::time::Duration;

use crate::{membership::now, metrics::Metrics, store::Snapshots};

/// After one that failed, on a full disk for one, the next is tried so soon.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// Takes snapshots for ever, one in each `every`. Nothing else waits for them, and none that fails ends anything.
pub(crate) async fn run(snapshots: &Snapshots, every: Duration, metrics: &Metrics) {
    let newest = match snapshots.list() {
        Ok(list) => list.first().map(|(taken, _)| *taken),
        Err(error) => {
            tracing::error!(%error, "cannot see the snapshots of earlier");
            None
        }
    };
    metrics.count_snapshot(newest);
    let mut wait = until_due(newest, now(), every);
    loop {
        tokio::time::sleep(wait).await;
        wait = match snapshots.take(now()).await {
            Ok(path) => {
                tracing::info!(path = %path.display(), "took a snapshot of the database");
                metrics.count_snapshot(Some(now()));
                every
            }
            Err(error) => {
                let wait = every.min(RETRY);
                if error.is_without_room() {
                    tracing::warn!(%error, again_in = ?wait, "took no snapshot of the database");
                } else {
                    tracing::error!(%error, again_in = ?wait, "took no snapshot of the database");
                }
                metrics.count_failed_snapshot();
                wait
            }
        };
    }
}

/// How long until the next one; also a server that is started again each hour takes one a day. One from the future says
/// nothing: the clock was wrong then or is now.
fn until_due(newest: Option<u64>, now: u64, every: Duration) -> Duration {
    let age = newest.and_then(|newest| now.checked_sub(newest));
    age.map_or(Duration::ZERO, |age| {
        every.saturating_sub(Duration::from_secs(age))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_is_due_an_interval_after_the_newest() {
        let due = |newest, now| until_due(newest, now, Duration::from_secs(100)).as_secs();
        assert_eq!(due(None, 1_000), 0);
        assert_eq!(due(Some(1_000), 1_000), 100);
        assert_eq!(due(Some(970), 1_000), 70);
        assert_eq!(due(Some(900), 1_000), 0);
        assert_eq!(due(Some(1), 1_000), 0);
        assert_eq!(due(Some(1_001), 1_000), 0);
    }
}
