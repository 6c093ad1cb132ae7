//! What is the answer to a request? Who asks, by which name, for what; then a file, a listing or a refusal.

use std::sync::{Arc, atomic::Ordering};

use http::{Method, Request, Response, StatusCode, Version, header};
use platform::beneath::BeneathError;

use super::{
    body::Body,
    client::Client,
    download::Download,
    host,
    lease::Lease,
    limits::URL_BYTES,
    listing::{self, Listing},
    query::Query,
    reply,
    site::Site,
    target::{self, Target},
    text::url_path,
};
use crate::{
    acl::{Access, Visitor},
    folder::{Folder, Found},
    share::Share,
};

/// The connection must end without an answer: its address now belongs to somebody else.
#[derive(Debug, thiserror::Error)]
#[error("the address of this connection changed hands")]
pub(crate) struct Dismissed;

/// What a path turned out to be.
enum Thing {
    File(Box<Download>),
    Listing(Listing),
    /// A folder whose URL lacks the slash at its end.
    NeedsSlash,
}

/// Answers one request.
pub(crate) async fn answer<B: Send>(
    site: &Site,
    client: Client,
    request: &Request<B>,
) -> Result<Response<Body>, Dismissed> {
    if !client.is_who_it_was(site) {
        return Err(Dismissed);
    }
    let method = request.method();
    if let Some(refusal) = refuse(site, client, request) {
        return Ok(refusal);
    }
    Ok(match target::parse(request.uri().path()) {
        None => reply::not_found(method),
        Some(Target::Root) => root(site, client, request),
        Some(Target::Inside {
            share,
            names,
            slash,
        }) => {
            let share = site.store.snapshot().find(&share).cloned();
            match share.filter(|share| share.access(client.visitor) >= Access::Read) {
                Some(share) => {
                    inside(
                        site,
                        client,
                        request,
                        Place {
                            share,
                            names,
                            slash,
                        },
                    )
                    .await
                }
                None => reply::not_found(method),
            }
        }
    })
}

/// Refuses what is dangerous or malformed whatever it asks for.
fn refuse<B>(site: &Site, client: Client, request: &Request<B>) -> Option<Response<Body>> {
    let method = request.method();
    // Nothing that a reader sends has a body of unknown length. Two framings in one request are how requests are smuggled
    // past a proxy, and of `Content-Length` with `Transfer-Encoding` the first may already be hidden from us.
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        let why = "Transfer-Encoding is not accepted here.\n";
        return Some(reply::refused(method, StatusCode::BAD_REQUEST, why));
    }
    let length = request
        .uri()
        .path_and_query()
        .map_or(0, |whole| whole.as_str().len());
    if length > URL_BYTES {
        return Some(reply::refused(
            method,
            StatusCode::URI_TOO_LONG,
            "The URL is longer than 8 KiB.\n",
        ));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/1.0 has no Host, and no browser speaks it.
        (None, _) if request.version() == Version::HTTP_10 => Some("localhost"),
        (None, _) | (Some(_), Some(_)) => None,
    };
    let Some(named) = named else {
        let why = "Exactly one Host header is needed.\n";
        return Some(reply::refused(method, StatusCode::BAD_REQUEST, why));
    };
    let directory = site.directory.borrow();
    let ours = |name: &str| host::is_ours(name, client.local, &directory);
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    if !ours(named) || !authority.is_none_or(ours) {
        let why = "This server does not answer to that name; use its virtual address or its name in the mesh.\n";
        return Some(reply::refused(method, StatusCode::MISDIRECTED_REQUEST, why));
    }
    None
}

/// The list of shares.
fn root<B>(site: &Site, client: Client, request: &Request<B>) -> Response<Body> {
    let method = request.method();
    if client.visitor == Visitor::Unknown {
        return reply::not_found(method);
    }
    if let Some(response) = not_reading(method) {
        return response;
    }
    if *method == Method::OPTIONS {
        return reply::options();
    }
    let query = match Query::parse(request.uri().query().unwrap_or_default(), request.headers()) {
        Ok(query) => query,
        Err(why) => return reply::text(method, StatusCode::BAD_REQUEST, why),
    };
    let shares = site.store.snapshot();
    let visible = shares.visible_to(client.visitor).map(|share| {
        let rw = share.access(client.visitor) == Access::ReadWrite;
        (share.name.to_string(), rw)
    });
    listing::of_shares(visible, &query).respond(method, &site.threads)
}

/// Something in a share that the visitor sees.
struct Place {
    share: Arc<Share>,
    names: Vec<Vec<u8>>,
    slash: bool,
}

async fn inside<B>(
    site: &Site,
    client: Client,
    request: &Request<B>,
    place: Place,
) -> Response<Body> {
    let method = request.method();
    if let Some(response) = not_reading(method) {
        return response;
    }
    let query = match Query::parse(request.uri().query().unwrap_or_default(), request.headers()) {
        Ok(query) => query,
        Err(why) => return reply::text(method, StatusCode::BAD_REQUEST, why),
    };
    let location = url_path(place.share.name.as_str(), &place.names, true);
    let location = match request.uri().query() {
        Some(query) => format!("{location}?{query}"),
        None => location,
    };
    let lease = Lease::new(site, client, &place.share);
    let Ok(permit) = site.threads.clone().acquire_owned().await else {
        return reply::not_found(method);
    };
    let looked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        place.look(&query, lease)
    });
    // A panic in there was reported by the panic hook; the peer learns no more than of any other failure.
    let Ok(Some(thing)) = looked.await else {
        return reply::not_found(method);
    };
    match thing {
        _ if *method == Method::OPTIONS => reply::options(),
        Thing::NeedsSlash => reply::moved(method, &location),
        Thing::Listing(listing) => listing.respond(method, &site.threads),
        Thing::File(download) => download.respond(method, request.headers(), &site.threads),
    }
}

impl Place {
    /// Opens what the path names; `None` is "not found". Blocks on the file system.
    fn look(&self, query: &Query, lease: Lease) -> Option<Thing> {
        let root = self.root()?;
        let found = root.find(&self.names);
        match found.ok()? {
            Found::Folder(_) if !self.slash && !query.list => Some(Thing::NeedsSlash),
            Found::Folder(folder) => {
                let mut trail = vec![self.share.name.as_str().as_bytes().to_vec()];
                trail.extend_from_slice(&self.names);
                let listing = listing::of_folder(folder, &trail, query, lease).ok()?;
                Some(Thing::Listing(listing))
            }
            Found::File(..) if self.slash => None,
            Found::File(file, stamp) => Some(Thing::File(Box::new(Download {
                file,
                stamp,
                name: self.names.last().cloned().unwrap_or_default(),
                attachment: query.download,
                lease,
            }))),
        }
    }

    /// The share's directory, opened anew for every request: a volume that was unmounted and came back is found, and none
    /// is kept busy. The owner is warned once per disappearance.
    fn root(&self) -> Option<Folder> {
        match Folder::open(&self.share.path) {
            Ok(root) => {
                self.share.warned.store(false, Ordering::Relaxed);
                Some(root)
            }
            Err(error) => {
                if !self.share.warned.swap(true, Ordering::Relaxed) {
                    report(&self.share, &error);
                }
                None
            }
        }
    }
}

fn report(share: &Share, error: &BeneathError) {
    tracing::warn!(
        share = share.name.as_str(),
        path = %share.path.display(),
        "share cannot be read by anyone: {error}; bring the directory back or remove the share"
    );
}

/// 405 for those who see the share.
fn not_reading(method: &Method) -> Option<Response<Body>> {
    let reading = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    (!reading).then(|| reply::method_not_allowed(method))
}
