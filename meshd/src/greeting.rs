//! What does `meshd up` print once it is ready?

use std::io::Write as _;

use crate::{
    lobby::Meeting,
    prepare::Prepared,
    problem::{self, Problem},
};

/// What a person or a script waits for, on standard output.
pub fn print(prepared: &Prepared, meeting: &Meeting) -> Result<(), Problem> {
    let network = prepared.membership.network();
    let name = meeting
        .own
        .borrow()
        .as_ref()
        .map_or_else(|| network.name.clone(), |own| own.name.clone());
    let addresses: Vec<_> = network
        .virtual_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut text = String::new();
    if let Some(link) = &prepared.new_link {
        let link = link.to_text();
        let news = if prepared.creates {
            "created"
        } else {
            "has no other member yet"
        };
        text.push_str(&format!("network {} {news}\njoin {link}\n", network.id));
        text.push_str(
            "\nTo link another machine, run there, with this link:  meshd up --join 'LINK'\n",
        );
        text.push_str(match network.anchor {
            Some(_) => "Whoever has the link can join within a week: treat it like a password.\n",
            None => "Whoever has the link can join for good: treat it like a password.\n",
        });
        text.push_str(&prepared.notice);
        text.push('\n');
    }
    text.push_str(&format!("ready {name} {}\n", addresses.join(" ")));
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| problem::operation_failed("write to standard output", &error))
}
