//! Does an HTTP proxy stand between us and the discovery server, and how does it pass a connection on?
//!
//! The usual environment variables name it, as they do for other programs. It is asked for a tunnel (RFC 9110 section
//! 9.3.6), for plain http too: the event connection needs one.

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Empty;
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{self, HeaderValue},
    upgrade::{self, Upgraded},
};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::ServerError;

/// A proxy, and what proves to it that we may use it. That is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy for a server, if the environment names one; or why that cannot be used.
    pub fn in_front_of(
        server: &Url,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let either = |name: &str| {
            let values = [name.to_ascii_lowercase(), name.to_owned()].map(|name| variable(&name));
            values.into_iter().flatten().find(|value| !value.is_empty())
        };
        let name = match server.scheme() {
            "https" => "HTTPS_PROXY",
            _ => "HTTP_PROXY",
        };
        let named = [name, "ALL_PROXY"]
            .into_iter()
            .find_map(|name| Some((name, either(name)?)));
        let Some((name, value)) = named else {
            return Ok(None);
        };
        let exceptions = either("NO_PROXY").unwrap_or_default();
        if is_local(server) || is_excepted(server, &exceptions) {
            return Ok(None);
        }
        let proxy = Self::parse(value.trim());
        // The value may have a password in it.
        let proxy = proxy.ok_or_else(|| {
            format!("the environment variable {name} does not name a proxy as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
        });
        proxy.map(Some)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut url: Url = match text.contains("://") {
            true => text.parse().ok()?,
            false => format!("http://{text}").parse().ok()?,
        };
        if url.scheme() != "http" || url.host().is_none() {
            return None;
        }
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let mut pair: Vec<u8> = percent_decode_str(user).collect();
                pair.push(b':');
                pair.extend(percent_decode_str(password.unwrap_or_default()));
                let text = format!("Basic {}", BASE64.encode(&pair));
                let mut value = HeaderValue::from_str(&text).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        Some(Self { url, authorization })
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Has it make a tunnel to a server.
    pub async fn pass(
        &self,
        stream: TcpStream,
        server: &Url,
    ) -> Result<TokioIo<Upgraded>, ServerError> {
        let broken = |error: hyper::Error| {
            ServerError::Unreachable(format!("the proxy {self} does not pass it on: {error}"))
        };
        let host = server.host_str().unwrap_or_default();
        let port = server.port_or_known_default().unwrap_or(80);
        let authority = format!("{host}:{port}");
        let mut request = Request::connect(&authority).header(header::HOST, &authority);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| ServerError::unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends with the tunnel. Errors reach the request.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(&authority, status));
        }
        upgrade::on(response)
            .await
            .map(TokioIo::new)
            .map_err(broken)
    }

    fn refused(&self, authority: &str, status: StatusCode) -> ServerError {
        let why = match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                "; it wants another user name and password in its URL"
            }
            _ => "",
        };
        ServerError::Unreachable(format!(
            "the proxy {self} answers {status} to CONNECT {authority}{why}"
        ))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Whether a server is on this very host, where no proxy would find it.
fn is_local(server: &Url) -> bool {
    match server.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => true,
    }
}

/// Whether a list such as `example.com,.lan,10.0.0.0/8,192.168.1.2` names the server. A name stands for what is below it
/// too, and `*` for everything.
fn is_excepted(server: &Url, exceptions: &str) -> bool {
    let (name, ip) = match server.host() {
        Some(Host::Ipv4(ip)) => (String::new(), Some(IpAddr::V4(ip))),
        Some(Host::Ipv6(ip)) => (String::new(), Some(IpAddr::V6(ip))),
        Some(Host::Domain(name)) => (name.to_ascii_lowercase(), None),
        None => return true,
    };
    let mut exceptions = exceptions
        .split([',', ' '])
        .map(|text| text.trim().to_ascii_lowercase())
        .filter(|text| !text.is_empty());
    exceptions.any(|text| {
        if let Some(ip) = ip {
            let bare = text.trim_matches(['[', ']']);
            let is_net = bare.parse().is_ok_and(|net: IpNet| net.contains(&ip));
            return text == "*" || is_net || bare.parse() == Ok(ip);
        }
        let suffix = text.trim_start_matches('.');
        let below = name.strip_suffix(suffix);
        text == "*" || below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_for(server: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>, String> {
        let lookup = |name: &str| {
            let mut all = variables.iter();
            let found = all.find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let server = server
            .parse()
            .map_err(|error: url::ParseError| error.to_string())?;
        Proxy::in_front_of(&server, &lookup)
    }

    const SERVER: &str = "https://mesh.example/";

    #[test]
    fn the_scheme_of_the_server_says_which_variable_counts() {
        let all = [
            ("https_proxy", "http://10.0.0.1:3128"),
            ("HTTP_PROXY", "10.0.0.2:8080"),
            ("ALL_PROXY", "http://10.0.0.3:1"),
        ];
        let of = |server, variables: &[_]| {
            let proxy = proxy_for(server, variables).unwrap();
            proxy.map(|proxy| proxy.to_string())
        };
        let some = |url: &str| Some(url.to_owned());
        assert_eq!(of(SERVER, &all), some("http://10.0.0.1:3128/"));
        assert_eq!(
            of("http://mesh.example/", &all),
            some("http://10.0.0.2:8080/")
        );
        assert_eq!(of(SERVER, &all[2..]), some("http://10.0.0.3:1/"));
        assert_eq!(of(SERVER, &[("HTTPS_PROXY", "")]), None);
        assert_eq!(of(SERVER, &[]), None);
    }

    #[test]
    fn user_and_password_go_to_the_proxy_and_are_not_shown() {
        let named = [("HTTPS_PROXY", "http://ann:hunter%402@proxy.example:3128")];
        let proxy = proxy_for(SERVER, &named).unwrap().unwrap();
        let authorization = proxy.authorization.clone().unwrap();
        assert_eq!(
            authorization,
            format!("Basic {}", BASE64.encode(b"ann:hunter@2"))
        );
        for shown in [
            format!("{proxy:?}"),
            proxy.to_string(),
            format!("{authorization:?}"),
        ] {
            assert!(
                !shown.contains("hunter") && !shown.contains("ann"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_value() {
        for value in [
            "https://ann:hunter2@p",
            "socks5://hunter2",
            "http://",
            "http://a b",
        ] {
            let why = proxy_for(SERVER, &[("HTTPS_PROXY", value)]).unwrap_err();
            assert!(
                why.contains("HTTPS_PROXY") && !why.contains("hunter2"),
                "{why}"
            );
        }
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        for (server, exceptions, excepted) in [
            (SERVER, "mesh.example", true),
            (SERVER, "a.example, .EXAMPLE", true),
            (SERVER, "*", true),
            (SERVER, "sh.example,example.com,10.0.0.0/8", false),
            ("https://10.1.2.3/", "192.168.0.0/16,10.0.0.0/8", true),
            ("https://10.1.2.3/", "10.1.2.4,3", false),
            ("https://[2001:db8::1]/", "[2001:db8::1]", true),
            ("https://127.0.0.1:7080/", "", true),
            ("https://localhost/", "", true),
        ] {
            let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", exceptions)];
            let proxy = proxy_for(server, &variables).unwrap();
            assert_eq!(proxy.is_none(), excepted, "{server} {exceptions}");
        }
    }
}
