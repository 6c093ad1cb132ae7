//! What does an invitation look like, and what does it pin?
//!
//! `http://HOST:PORT/join/NETWORK?key=NETWORK_KEY#SECRET`. It is a URL, so that whoever opens it in a browser is
//! told what to do with it; the secret is in the fragment, which no client sends to the server (RFC 3986 section 3.5).

use std::fmt;

use url::Url;

use crate::{DecodeError, NetworkId, NodeId, psk::NetworkPsk};

const WHAT: &str = "join link";

/// The port of a discovery server whose link or URL names none.
pub const DEFAULT_SERVER_PORT: u16 = 7080;

/// An invitation to a network.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLink {
    /// The discovery server: scheme, host and port, path `/`.
    pub server: Url,
    /// The network's name there.
    pub network: NetworkId,
    /// The network's Ed25519 public key, so that another network of the same name cannot stand in for it.
    pub network_key: NodeId,
    /// The network's shared secret.
    pub psk: NetworkPsk,
}

impl JoinLink {
    /// The link as text. It holds the secret: show it to the person who asked, never log it.
    pub fn to_text(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&format!("join/{}", self.network));
        url.set_query(Some(&format!("key={}", self.network_key)));
        url.set_fragment(Some(&self.psk.to_text()));
        url.into()
    }

    /// Reads a link; says which part is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let wrong = |why| DecodeError::new(WHAT, why);
        let url = Url::parse(text.trim())
            .map_err(|_| wrong("is not a URL; it begins with http:// or https://"))?;
        let network = url
            .path()
            .strip_prefix("/join/")
            .ok_or_else(|| wrong("has no /join/NETWORK in it; is it a link of another program?"))?
            .parse()
            .map_err(|_| wrong("names no valid network"))?;
        let key = url.query_pairs().find(|(name, _)| name == "key");
        let network_key = key
            .ok_or_else(|| wrong("is cut short: the network's key is missing"))?
            .1
            .parse()
            .map_err(|_| wrong("is cut short or mistyped in the network's key"))?;
        let secret = url.fragment().ok_or_else(|| {
            wrong("is cut short: the secret behind '#' is missing (quote the link in a shell)")
        })?;
        let psk = NetworkPsk::from_text(secret)
            .map_err(|_| wrong("is cut short or mistyped in the secret behind '#'"))?;
        Ok(Self {
            server: server_url(&url)?,
            network,
            network_key,
            psk,
        })
    }
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

    fn link() -> JoinLink {
        JoinLink {
            server: Url::parse("http://198.51.100.2:7080/").unwrap(),
            network: "my-network".parse().unwrap(),
            network_key: NodeId::from_bytes([5; 32]),
            psk: NetworkPsk::from_bytes([6; 32]),
        }
    }

    #[test]
    fn a_link_survives_its_text_form() {
        let text = link().to_text();
        assert!(text.starts_with("http://198.51.100.2:7080/join/my-network?key="));
        assert_eq!(JoinLink::parse(&text), Ok(link()));
        assert_eq!(JoinLink::parse(&format!("  {text}\n")), Ok(link()));
    }

    #[test]
    fn a_cut_link_is_refused_wherever_it_is_cut() {
        let text = link().to_text();
        for cut in 0..text.len() {
            assert!(JoinLink::parse(&text[..cut]).is_err(), "{}", &text[..cut]);
        }
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
    fn the_secret_is_not_in_debug_output() {
        assert!(!format!("{:?}", link()).contains(&link().psk.to_text()));
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
        assert!(parse_server("ftp://x").is_err());
        assert!(parse_server("").is_err());
    }
}
