//! What does the LAN's part of the daemon begin with?

use std::sync::Arc;

use mesh_core::NodeStatus;
use mesh_wire::lan::LanKey;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Lan, Sight, Voice};
use crate::{
    dataplane::Commands, discovery::hearsay::Hearsay, lobby::Meeting, prepare::Prepared,
    problem::Problem,
};

/// What stands around it once the data plane runs.
pub struct Surroundings {
    /// The mesh's own interface.
    pub interface: String,
    /// Who is reached.
    pub node: watch::Receiver<Arc<NodeStatus>>,
    /// Rises when the host's addresses change.
    pub moved: watch::Receiver<u64>,
    /// To the discovery client.
    pub hearsay: mpsc::Sender<Hearsay>,
    /// To the data plane.
    pub commands: Commands,
}

impl Surroundings {
    /// Starts it, unless the configuration says no.
    ///
    /// # Errors
    /// If what we say of ourselves cannot be signed.
    pub fn watch(
        self,
        prepared: &mut Prepared,
        meeting: &Meeting,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<(), Problem> {
        if !prepared.settings.connection.lan {
            return Ok(());
        }
        let own = meeting.own.borrow().clone();
        let record = prepared.membership.own_record(own.as_ref())?;
        let network = prepared.membership.network();
        let signer = prepared.identity.signing_key().clone();
        let keys = (LanKey::of(&network.psk), signer);
        let lan = Lan {
            voice: Voice::new(keys, record, self.commands.ports()),
            key: LanKey::of(&network.psk),
            interface: self.interface,
            cidr: network.cidr,
            moved: self.moved,
            own: meeting.own.subscribe(),
            sight: Sight {
                directory: meeting.directory.subscribe(),
                node: self.node,
                servers: meeting.statuses.subscribe(),
            },
            hearsay: self.hearsay,
            commands: self.commands,
            health: meeting.health.clone(),
        };
        tasks.spawn(lan.run(shutdown.clone()));
        Ok(())
    }
}
