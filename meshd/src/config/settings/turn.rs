//! Which TURN servers does the configuration name?

use mesh_wire::discovery::TurnPassword;

use super::{
    super::{
        place::At,
        raw::RawTurnServer,
        values::{self, StunServer, TurnTransport},
    },
    Reader,
};

/// A TURN server of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnSettings {
    /// Where it is.
    pub server: StunServer,
    /// How it is reached.
    pub transport: TurnTransport,
    /// Our name there.
    pub username: String,
    /// What belongs to it.
    pub password: TurnPassword,
}

impl Reader {
    pub(super) fn turn_servers(&mut self, raw: &[At<RawTurnServer>]) -> Vec<TurnSettings> {
        let mut servers = Vec::new();
        for (index, server) in raw.iter().enumerate() {
            let key = |field: &str| format!("mesh.turn.servers[{index}].{field}");
            let RawTurnServer {
                url,
                username,
                password,
            } = &server.value;
            let server = self.required(server.place, &key("url"), url, values::turn_url);
            let username = self.optional(&key("username"), username, values::turn_user);
            let password = password.as_ref().map(|password| &password.0.value);
            let password = TurnPassword::new(password.cloned().unwrap_or_default());
            servers.extend(server.map(|(server, transport)| TurnSettings {
                server,
                transport,
                username: username.unwrap_or_default(),
                password,
            }));
        }
        servers
    }
}
