//! `mesh.routing`, and whether members carry for each other at all.

use std::time::Duration;

use mesh_core::RoutingConfig;

use super::{Reader, SECOND, values};
use crate::config::raw::RawMesh;

const MAX_ROUTE_TIMEOUT: Duration = Duration::from_secs(86_400);

const RELAY_VIA_PEERS: &str = "mesh.connection.relay_via_peers";

impl Reader {
    /// All is read and judged, also where nothing is routed.
    pub(super) fn routing(&mut self, mesh: &RawMesh) -> Option<RoutingConfig> {
        let (connection, routing) = (&mesh.connection, &mesh.routing);
        let is_on = self.value(
            RELAY_VIA_PEERS,
            &connection.relay_via_peers,
            values::boolean,
        );
        let config = RoutingConfig {
            max_hops: self.value("mesh.routing.max_hops", &routing.max_hops, values::hops),
            route_timeout: self.value(
                "mesh.routing.route_timeout",
                &routing.route_timeout,
                |text| values::duration(text, &(SECOND..=MAX_ROUTE_TIMEOUT)),
            ),
            split_horizon: self.value(
                "mesh.routing.split_horizon",
                &routing.split_horizon,
                values::boolean,
            ),
            carries: true,
        };
        let threads = mesh.device.threads.as_ref();
        let threads = threads.and_then(|text| values::threads(&text.value).ok());
        let several = threads.is_some_and(|threads| threads > 1);
        if let Some(text) = connection
            .relay_via_peers
            .as_ref()
            .filter(|_| is_on && several)
        {
            self.find(text.place, RELAY_VIA_PEERS, "needs mesh.device.threads: 1");
        }
        is_on.then_some(config)
    }
}
