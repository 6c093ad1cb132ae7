//! `meshd routes`: over whom is each member reached?

use super::{
    Failure,
    client::Client,
    output::{Output, table},
};
use crate::routes::RouteStatus;

pub(super) async fn routes(
    client: &Client,
    output: &mut Output,
    json: bool,
) -> Result<(), Failure> {
    let routes: Vec<RouteStatus> = client.get("/api/v1/routes").await?;
    if json {
        output.json(&routes)?;
    } else {
        output.line(shown(&routes))?;
    }
    Ok(())
}

fn shown(routes: &[RouteStatus]) -> String {
    if routes.is_empty() {
        return "no routes: no member is a neighbour, or mesh.connection.relay_via_peers is off"
            .to_owned();
    }
    let rows: Vec<_> = routes.iter().map(row).collect();
    table(
        ["MEMBER", "WAY", "HOPS", "METRIC", "RTT", "CONFIRMED"],
        &rows,
    )
}

fn row(route: &RouteStatus) -> [String; 6] {
    let way = match route.path.is_empty() {
        true => "a neighbour".to_owned(),
        false => format!("via {}", route.path.join(", ")),
    };
    let named = match route.feasible {
        true => "",
        false => " (named in each message)",
    };
    [
        route.name.clone(),
        format!("{way}{named}"),
        route.hops.to_string(),
        route.metric.to_string(),
        format!("{} ms", route.rtt_ms),
        format!("{} s ago", route.age_s),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_who_carries() {
        let route = RouteStatus {
            member: None,
            name: "dave".to_owned(),
            next_hop: "bob".to_owned(),
            path: vec!["bob".to_owned(), "carol".to_owned()],
            hops: 3,
            metric: 312,
            rtt_ms: 12,
            feasible: false,
            age_s: 4,
        };
        let text = shown(&[route]);
        assert!(
            text.contains("via bob, carol (named in each message)"),
            "{text}"
        );
        assert!(shown(&[]).contains("relay_via_peers"));
    }
}
