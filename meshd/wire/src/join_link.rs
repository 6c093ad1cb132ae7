//! What does an invitation look like, and what does it pin?
//!
//! `http://HOST:PORT/join/NETWORK?key=NETWORK_KEY#SECRET.CAPABILITY`. It is a URL, so that whoever opens it in a browser is
//! told what to do with it; what is secret is in the fragment, which no client sends to the server (RFC 3986 section 3.5).
//! The link of a network without a key has neither that nor a capability. Further servers are `server=URL` beside the key.

use std::fmt;

use url::Url;

use crate::{
    DecodeError, NetworkId, NodeId,
    psk::NetworkPsk,
    trust::{Capability, Root},
};

const WHAT: &str = "join link";

/// The port of a discovery server whose link or URL names none.
pub const DEFAULT_SERVER_PORT: u16 = 7080;

/// The most discovery servers of one network: each is asked by every member all the time.
pub const MAX_SERVERS: usize = 8;

/// Bytes of the longest DNS name (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;

/// An invitation to a network.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLink {
    /// The discovery server: scheme, host and port, path `/`.
    pub server: Url,
    /// Further discovery servers, in the order in which they are preferred; at most [`MAX_SERVERS`] with the first.
    pub others: Vec<Url>,
    /// The network's name there.
    pub network: NetworkId,
    /// In a network with a key: what makes whoever has the link a member.
    pub admission: Option<Admission>,
    /// The network's shared secret.
    pub psk: NetworkPsk,
}

/// What a link to a network with a key holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Admission {
    /// The network's Ed25519 public key, so that another network of the same name cannot stand in for it.
    pub network_key: NodeId,
    /// Whom the link lets in.
    pub capability: Capability,
}

impl JoinLink {
    /// The link as text. It holds the secret: show it to the person who asked, never log it.
    pub fn to_text(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&format!("join/{}", self.network));
        let mut secret = self.psk.to_text();
        if self.admission.is_some() || !self.others.is_empty() {
            let key = self.admission.as_ref();
            let key = key.map(|admission| ("key", admission.network_key.to_string()));
            let others = self.others.iter();
            url.query_pairs_mut()
                .extend_pairs(key)
                .extend_pairs(others.map(|other| ("server", other.as_str())));
        }
        if let Some(admission) = &self.admission {
            secret.push('.');
            secret.push_str(&admission.capability.to_text());
        }
        url.set_fragment(Some(&secret));
        url.into()
    }

    /// Reads a link; says which part is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let wrong = |why| DecodeError::new(WHAT, why);
        let url = Url::parse(text.trim())
            .map_err(|_| wrong("is not a URL; it begins with http:// or https://"))?;
        let network: NetworkId = url
            .path()
            .strip_prefix("/join/")
            .ok_or_else(|| wrong("has no /join/NETWORK in it; is it a link of another program?"))?
            .parse()
            .map_err(|_| wrong("names no valid network"))?;
        let secret = url.fragment().ok_or_else(|| {
            wrong("is cut short: the secret behind '#' is missing (quote the link in a shell)")
        })?;
        let (secret, capability) = match secret.split_once('.') {
            Some((secret, capability)) => (secret, Some(capability)),
            None => (secret, None),
        };
        let psk = NetworkPsk::from_text(secret)
            .map_err(|_| wrong("is cut short or mistyped in the secret behind '#'"))?;
        let key = url.query_pairs().find(|(name, _)| name == "key");
        let admission = match (key, capability) {
            (None, None) => None,
            (Some((_, key)), Some(capability)) => Some(admission(&network, &key, capability)?),
            (Some(_), None) => return Err(wrong("is cut short: the invite behind '.' is missing")),
            (None, Some(_)) => return Err(wrong("lacks the network's key")),
        };
        let server = server_url(&url)?;
        Ok(Self {
            others: others(&url, &server)?,
            server,
            network,
            admission,
            psk,
        })
    }
}

/// The further servers of a link to `first`.
fn others(link: &Url, first: &Url) -> Result<Vec<Url>, DecodeError> {
    let wrong = || DecodeError::new(WHAT, "names a further server that cannot be one");
    let mut others: Vec<Url> = Vec::new();
    for (_, text) in link.query_pairs().filter(|(name, _)| name == "server") {
        let other = parse_server(&text).map_err(|_| wrong())?;
        if other == *first || others.contains(&other) {
            continue;
        }
        if others.len() + 1 >= MAX_SERVERS {
            return Err(DecodeError::new(WHAT, "names more than 8 servers"));
        }
        others.push(other);
    }
    Ok(others)
}

/// What the link says, if an admin of that network said so.
fn admission(network: &NetworkId, key: &str, capability: &str) -> Result<Admission, DecodeError> {
    let wrong = |why| DecodeError::new(WHAT, why);
    let network_key: NodeId = key
        .parse()
        .map_err(|_| wrong("is cut short or mistyped in the network's key"))?;
    let capability = Capability::from_text(capability)
        .map_err(|_| wrong("is cut short or mistyped in the invite behind '.'"))?;
    let root = Root {
        network: network.clone(),
        key: network_key,
    };
    capability
        .invite
        .verify(&root)
        .map_err(|_| wrong("holds an invite that no admin of this network made"))?;
    Ok(Admission {
        network_key,
        capability,
    })
}

/// Reads the address of a discovery server as people write it: a URL, `host:port` or `host`.
/// Without a scheme it is `http`, without a port [`DEFAULT_SERVER_PORT`].
pub fn parse_server(text: &str) -> Result<Url, DecodeError> {
    let text = text.trim();
    let bare = !text.contains("://");
    let url = if bare {
        Url::parse(&format!("http://{text}"))
    } else {
        Url::parse(text)
    }
    .map_err(|_| DecodeError::new("server address", "is not HOST, HOST:PORT or a URL"))?;
    let mut server = server_url(&url)?;
    if bare && server.port().is_none() && !text.ends_with(":80") {
        server
            .set_port(Some(DEFAULT_SERVER_PORT))
            .map_err(|()| DecodeError::new("server address", "cannot have a port"))?;
    }
    Ok(server)
}

fn server_url(url: &Url) -> Result<Url, DecodeError> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(DecodeError::new(
            "server address",
            "must be an http or https URL with a host",
        ));
    }
    if url.host_str().is_some_and(|host| host.len() > MAX_HOST) {
        return Err(DecodeError::new("server address", "is too long"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(DecodeError::new(
            "server address",
            "must not hold a user name or a password",
        ));
    }
    let mut server = url.clone();
    server.set_path("/");
    server.set_query(None);
    server.set_fragment(None);
    Ok(server)
}

impl fmt::Debug for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinLink({} at {})", self.network, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Invite, InviteTerms, Roles, Span};
    use ed25519_dalek::SigningKey;

    fn link() -> JoinLink {
        let (network, secret) = (
            SigningKey::from_bytes(&[5; 32]),
            SigningKey::from_bytes(&[4; 32]),
        );
        let root = Root {
            network: "my-network".parse().unwrap(),
            key: NodeId::of(&network),
        };
        let terms = InviteTerms {
            key: NodeId::of(&secret),
            uses: Some(1),
            roles: Roles::default(),
            span: Span { from: 1, until: 2 },
        };
        let invite = Invite::sign(&root, &network, None, &terms).unwrap();
        JoinLink {
            server: Url::parse("http://198.51.100.2:7080/").unwrap(),
            others: Vec::new(),
            network: root.network,
            admission: Some(Admission {
                network_key: root.key,
                capability: Capability::new(secret, invite).unwrap(),
            }),
            psk: NetworkPsk::from_bytes([6; 32]),
        }
    }

    fn without_key() -> JoinLink {
        JoinLink {
            admission: None,
            ..link()
        }
    }

    #[test]
    fn a_link_survives_its_text_form() {
        let text = link().to_text();
        assert!(text.starts_with("http://198.51.100.2:7080/join/my-network?key="));
        for link in [link(), without_key()] {
            let text = link.to_text();
            assert_eq!(JoinLink::parse(&text), Ok(link.clone()));
            assert_eq!(JoinLink::parse(&format!("  {text}\n")), Ok(link));
        }
    }

    fn with_others(link: JoinLink) -> JoinLink {
        let others = ["https://b.example/", "http://[2001:db8::7]:7081/"];
        JoinLink {
            others: others.map(|url| Url::parse(url).unwrap()).to_vec(),
            ..link
        }
    }

    #[test]
    fn further_servers_travel_beside_the_key() {
        for link in [with_others(link()), with_others(without_key())] {
            assert_eq!(JoinLink::parse(&link.to_text()), Ok(link));
        }
        let text = with_others(link()).to_text();
        let old = link().to_text();
        let (before, secret) = old.split_once('#').unwrap();
        assert!(text.starts_with(before), "an older meshd finds the key");
        assert!(text.ends_with(secret));
        // One that is named twice is one.
        let same = text.replace("#", "&server=https://b.example&server=198.51.100.2#");
        assert_eq!(JoinLink::parse(&same), Ok(with_others(link())));
    }

    #[test]
    fn a_link_with_a_server_that_cannot_be_one_or_with_too_many_is_refused() {
        let old = link().to_text();
        for bad in ["ftp://x", "", "http://u:p@h/", "http://"] {
            let text = old.replace('#', &format!("&server={bad}#"));
            assert!(JoinLink::parse(&text).is_err(), "{bad}");
        }
        let with = |count: usize| {
            let others = (0..count).map(|n| format!("&server=10.0.0.{n}"));
            JoinLink::parse(&old.replace('#', &format!("{}#", others.collect::<String>())))
        };
        assert_eq!(with(7).unwrap().others.len(), 7);
        assert!(with(8).is_err());
    }

    #[test]
    fn a_cut_link_is_refused_wherever_it_is_cut() {
        let further = with_others(link());
        for text in [link(), without_key(), further].map(|link| link.to_text()) {
            for cut in 0..text.len() {
                assert!(JoinLink::parse(&text[..cut]).is_err(), "{}", &text[..cut]);
            }
        }
    }

    #[test]
    fn a_link_whose_invite_the_network_did_not_make_is_refused() {
        let mut other = link();
        if let Some(admission) = &mut other.admission {
            admission.network_key = NodeId::of(&SigningKey::from_bytes(&[7; 32]));
        }
        let error = JoinLink::parse(&other.to_text()).unwrap_err();
        assert!(error.why.contains("no admin"), "{error}");
    }

    #[test]
    fn a_foreign_link_is_refused() {
        for text in [
            "https://example.com/",
            "ts://x",
            "magnet:?xt=urn:btih:0",
            "join me",
        ] {
            assert!(JoinLink::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_secret_is_in_debug_output() {
        let link = link();
        let shown = format!("{link:?}");
        assert!(!shown.contains(&link.psk.to_text()));
        let Some(admission) = link.admission else {
            panic!("the link has none")
        };
        assert!(!shown.contains(&admission.capability.to_text()));
    }

    #[test]
    fn a_server_is_named_as_people_write_it() {
        for (text, url) in [
            (
                "bifrost.example.com:7080",
                "http://bifrost.example.com:7080/",
            ),
            ("198.51.100.2", "http://198.51.100.2:7080/"),
            ("https://mesh.example.com", "https://mesh.example.com/"),
            ("http://h:8080/x", "http://h:8080/"),
        ] {
            assert_eq!(parse_server(text).unwrap().as_str(), url);
        }
        for bad in ["ftp://x", "", "http://ann:secret@x/", "ann@x"] {
            assert!(parse_server(bad).is_err(), "{bad}");
        }
        assert!(parse_server(&"a".repeat(254)).is_err());
    }
}
