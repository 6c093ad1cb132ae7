//! GET and HEAD of a file: preconditions, ranges, header fields, and bytes that are the file's or none.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use platform::beneath::Stamp;
use tokio::sync::Semaphore;

use super::{
    body::{BlockSource, Body, BodyError},
    lease::Lease,
    multipart,
    range::{self, ByteRange, Wanted},
    reply,
    text::disposition,
    validators::{Validators, Verdict},
};

/// 256 KiB: the hash group of the integrity tree. Over loopback it reached 2.9 GB/s, as did 1 MiB, which costs four times
/// the memory; 64 KiB reached half of that.
const BLOCK: u64 = 256 * 1024;

/// A file that may be sent, with everything its response needs.
pub(crate) struct Download {
    pub(crate) file: File,
    /// As of the moment it was opened.
    pub(crate) stamp: Stamp,
    /// The last name of its path.
    pub(crate) name: Vec<u8>,
    /// Whether the URL asks for a download rather than a display.
    pub(crate) attachment: bool,
    pub(crate) lease: Lease,
}

/// A part of a body.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Bytes of the file.
    Part(ByteRange),
    /// Bytes between parts.
    Text(Bytes),
}

impl Download {
    /// Answers a GET or HEAD.
    pub(crate) fn respond(
        self,
        method: &Method,
        request: &HeaderMap,
        threads: &Arc<Semaphore>,
    ) -> Response<Body> {
        let now = SystemTime::now();
        let size = self.stamp.size;
        let validators = Validators::new(self.stamp.inode, size, self.stamp.modified, now);
        let ranges = match validators.check(request) {
            Verdict::Failed => {
                return reply::text(
                    method,
                    StatusCode::PRECONDITION_FAILED,
                    "The file has changed.\n",
                );
            }
            Verdict::NotModified => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                describe(response.headers_mut(), &validators, now);
                return response;
            }
            Verdict::Send { ranges } => ranges,
        };
        let wanted = match request.get(header::RANGE) {
            // Section 14.2: Range is defined for GET only.
            Some(value) if ranges && *method == Method::GET => value
                .to_str()
                .map_or(Wanted::Whole, |text| range::parse(text, size)),
            Some(_) | None => Wanted::Whole,
        };
        let plan = match wanted {
            Wanted::Unsatisfiable => return unsatisfiable(method, size),
            Wanted::Whole => Plan::whole(size, &self.name),
            Wanted::Parts(parts) => match parts.as_slice() {
                [part] => Plan::part(*part, size, &self.name),
                several => Plan::parts(several, size, &self.name),
            },
        };
        self.send(plan, method, (&validators, now), threads)
    }

    fn send(
        self,
        plan: Plan,
        method: &Method,
        (validators, now): (&Validators, SystemTime),
        threads: &Arc<Semaphore>,
    ) -> Response<Body> {
        let attachment = self.attachment.then(|| disposition(&self.name));
        let body = if *method == Method::HEAD || plan.length == 0 {
            Body::empty()
        } else {
            let source = Sending {
                file: self.file,
                stamp: self.stamp,
                pieces: plan.pieces,
                position: None,
                lease: self.lease,
            };
            Body::blocks(Box::new(source), Some(plan.length), threads.clone())
        };
        let mut response = Response::new(body);
        *response.status_mut() = plan.status;
        let headers = response.headers_mut();
        describe(headers, validators, now);
        headers.insert(header::CONTENT_TYPE, plan.kind);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(plan.length));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(range) = plan.content_range {
            headers.insert(header::CONTENT_RANGE, range);
        }
        if let Some(value) = attachment {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        response
    }
}

/// What to send.
struct Plan {
    status: StatusCode,
    kind: HeaderValue,
    content_range: Option<HeaderValue>,
    pieces: VecDeque<Piece>,
    /// Of all pieces, in bytes.
    length: u64,
}

impl Plan {
    fn whole(size: u64, name: &[u8]) -> Self {
        let part = size.checked_sub(1).map(|last| ByteRange { first: 0, last });
        Self {
            status: StatusCode::OK,
            kind: content_type(name),
            content_range: None,
            pieces: part.map(Piece::Part).into_iter().collect(),
            length: size,
        }
    }

    fn part(part: ByteRange, size: u64, name: &[u8]) -> Self {
        Self {
            status: StatusCode::PARTIAL_CONTENT,
            kind: content_type(name),
            content_range: HeaderValue::try_from(part.content_range(size)).ok(),
            pieces: VecDeque::from([Piece::Part(part)]),
            length: part.len(),
        }
    }

    fn parts(parts: &[ByteRange], size: u64, name: &[u8]) -> Self {
        let boundary = multipart::boundary();
        let kind = content_type(name);
        let pieces = multipart::pieces(parts, size, kind.to_str().unwrap_or_default(), &boundary);
        let length = pieces.iter().map(Piece::len).sum();
        Self {
            status: StatusCode::PARTIAL_CONTENT,
            kind: multipart::content_type(&boundary),
            content_range: None,
            pieces,
            length,
        }
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Part(range) => range.len(),
            Self::Text(text) => text.len() as u64,
        }
    }
}

/// A file being sent.
struct Sending {
    file: File,
    stamp: Stamp,
    pieces: VecDeque<Piece>,
    /// Where the file's cursor is; `None` before the first read.
    position: Option<u64>,
    lease: Lease,
}

impl BlockSource for Sending {
    fn next_block(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self.pieces.pop_front() {
            None => Ok(None),
            Some(Piece::Text(text)) => Ok(Some(text)),
            Some(Piece::Part(range)) => {
                let block = self.read(range.first, range.len().min(BLOCK))?;
                let next = range.first + block.len() as u64;
                if next <= range.last {
                    let rest = ByteRange {
                        first: next,
                        ..range
                    };
                    self.pieces.push_front(Piece::Part(rest));
                }
                Ok(Some(block))
            }
        }
    }

    fn may_send(&self) -> bool {
        self.lease.holds()
    }
}

impl Sending {
    /// Reads exactly `length` bytes at `first`, then makes sure that they are of the version whose header fields
    /// were sent: the stamp is taken after the read, so a write before or during the read shows.
    fn read(&mut self, first: u64, length: u64) -> Result<Bytes, BodyError> {
        if self.position != Some(first) {
            self.file.seek(SeekFrom::Start(first))?;
        }
        let mut block = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&self.file).take(length).read_to_end(&mut block)?;
        if block.len() as u64 != length || Stamp::of(&self.file)? != self.stamp {
            return Err(BodyError::Changed);
        }
        self.position = Some(first + length);
        Ok(block.into())
    }
}

fn describe(headers: &mut HeaderMap, validators: &Validators, now: SystemTime) {
    // Both are ASCII by construction.
    if let Ok(tag) = HeaderValue::try_from(validators.etag()) {
        headers.insert(header::ETAG, tag);
    }
    if let Ok(date) = HeaderValue::try_from(validators.last_modified(now)) {
        headers.insert(header::LAST_MODIFIED, date);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply::guard_file(headers);
}

fn unsatisfiable(method: &Method, size: u64) -> Response<Body> {
    let mut response = reply::text(
        method,
        StatusCode::RANGE_NOT_SATISFIABLE,
        "No such range: outside the file, overlapping, or more than 16.\n",
    );
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// By the name's extension; the content is never looked at.
fn content_type(name: &[u8]) -> HeaderValue {
    let guess =
        mime_guess::from_path(String::from_utf8_lossy(name).as_ref()).first_or_octet_stream();
    let text = if guess.type_() == "text" {
        format!("{guess}; charset=utf-8")
    } else {
        guess.to_string()
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_its_charset_and_unknown_is_octets() {
        let kind = |name: &str| content_type(name.as_bytes()).to_str().unwrap().to_owned();
        assert_eq!(kind("a.txt"), "text/plain; charset=utf-8");
        assert_eq!(kind("a.HTML"), "text/html; charset=utf-8");
        assert_eq!(kind("a.png"), "image/png");
        assert_eq!(kind("noextension"), "application/octet-stream");
    }

    #[test]
    fn the_length_of_several_parts_counts_what_stands_between_them() {
        let parts = [
            ByteRange { first: 0, last: 0 },
            ByteRange { first: 9, last: 9 },
        ];
        let plan = Plan::parts(&parts, 10, b"a.txt");
        let text: usize = plan
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Part(_) => 0,
                Piece::Text(text) => text.len(),
            })
            .sum();
        assert_eq!(plan.length, text as u64 + 2);
        assert_eq!(plan.pieces.len(), 5);
    }
}
