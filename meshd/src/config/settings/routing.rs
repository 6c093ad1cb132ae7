//! `mesh.routing`, and whether members carry for each other at all.

use std::time::Duration;

use mesh_core::RoutingConfig;

use super::{Reader, SECOND, values};
use crate::config::raw::RawMesh;

const MAX_ROUTE_TIMEOUT: Duration = Duration::from_secs(86_400);

impl Reader {
    /// All is read and judged, also where nothing is routed.
    pub(super) fn routing(&mut self, mesh: &RawMesh) -> Option<RoutingConfig> {
        let (connection, routing) = (&mesh.connection, &mesh.routing);
        let is_on = self.value(
            "mesh.connection.relay_via_peers",
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
        is_on.then_some(config)
    }
}
