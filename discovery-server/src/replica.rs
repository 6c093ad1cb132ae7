//! What does a server do to be one of several on the same database? It renews its lease, and passes on what the others tell.

use std::time::Duration;

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    membership::Networks,
    store::{Listener, StoreError},
};

/// Three times within a lease, so that one failure does no harm.
const RENEWAL: Duration = Duration::from_secs(5);

/// What was told while nobody listened is found so soon.
const POLL: Duration = Duration::from_secs(1);

/// Half of the time for which news are kept.
const LONGEST_GAP: Duration = Duration::from_secs(300);

/// How far this server has heard.
struct Heard {
    seq: u64,
    at: Instant,
}

impl Heard {
    fn now(seq: u64) -> Self {
        let at = Instant::now();
        Self { seq, at }
    }
}

/// Runs for ever. `seq` is the last news that was known at the start.
pub(crate) async fn run(networks: &Networks, mut listener: Listener, mut seq: u64) {
    loop {
        let told = Notify::new();
        tokio::select! {
            () = networks.store.silence() => {}
            () = async { tokio::join!(listen(listener, &told), follow(networks, seq, &told)); } => {}
        }
        tracing::error!("cut off from the database: clients are sent away until it is back");
        networks.cut_off();
        (listener, seq) = come_back(networks).await;
        tracing::info!("the database is back");
    }
}

async fn come_back(networks: &Networks) -> (Listener, u64) {
    loop {
        match networks.come_back().await {
            Ok(beginning) => return beginning,
            Err(error) => tracing::warn!(%error, "will try again"),
        }
        sleep(POLL).await;
    }
}

async fn listen(mut listener: Listener, told: &Notify) {
    loop {
        if let Err(error) = listener.heard().await {
            tracing::warn!(%error, "news come by asking for them only");
            sleep(POLL).await;
        }
        told.notify_one();
    }
}

async fn follow(networks: &Networks, seq: u64, told: &Notify) {
    let mut heard = Heard::now(seq);
    let (mut poll, mut renewal) = (interval(POLL), interval(RENEWAL));
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            () = told.notified() => catch_up(networks, &mut heard).await,
            _ = poll.tick() => catch_up(networks, &mut heard).await,
            _ = renewal.tick() => renew(networks).await,
        };
        if let Err(error) = done {
            tracing::error!(%error, "will try again");
            sleep(POLL).await;
        }
        if heard.at.elapsed() > LONGEST_GAP {
            networks.store.must_begin_anew();
        }
        if networks.store.takes_begin_anew() {
            begin_anew(networks, &mut heard).await;
        }
    }
}

/// Passes on what was told since.
async fn catch_up(networks: &Networks, heard: &mut Heard) -> Result<(), StoreError> {
    loop {
        let asked = Instant::now();
        let news = networks.store.news(heard.seq).await?;
        if news.is_empty() {
            heard.at = asked;
            return Ok(());
        }
        for one in news {
            let seq = one.seq;
            networks.apply(one).await?;
            heard.seq = seq;
        }
    }
}

async fn renew(networks: &Networks) -> Result<(), StoreError> {
    if !networks.store.renew_lease().await? {
        tracing::warn!("the other servers took this one for dead");
        networks.store.must_begin_anew();
    }
    Ok(())
}

async fn begin_anew(networks: &Networks, heard: &mut Heard) {
    match networks.begin_among_servers().await {
        Ok(seq) => {
            tracing::info!("began anew among the servers of this database");
            *heard = Heard::now(seq);
        }
        Err(error) => {
            tracing::error!(%error, "will try again");
            networks.store.must_begin_anew();
            sleep(POLL).await;
        }
    }
}
