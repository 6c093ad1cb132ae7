//! How long may a client take? A socket that ends clients which dribble their header block or do not read what they
//! asked for.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    limits::{DRAIN_BYTES, DRAIN_TIME, HEADER_TIME},
    phase::Phase,
};

/// A TCP connection with deadlines.
pub(crate) struct Timed {
    stream: TcpStream,
    phase: Phase,
    /// Runs while a header block is incomplete; the first one from the accept.
    header: Option<Pin<Box<Sleep>>>,
    /// The requests that were complete when `header` began to run.
    requests: u64,
    /// Runs while bytes wait for the client to take them.
    drain: Option<Drain>,
}

struct Drain {
    end: Pin<Box<Sleep>>,
    taken: u64,
}

impl Timed {
    /// Wraps a connection that was just accepted.
    pub(crate) fn new(stream: TcpStream, phase: Phase) -> Self {
        Self {
            stream,
            phase,
            header: Some(after(HEADER_TIME)),
            requests: 0,
            drain: None,
        }
    }

    /// Books a write's outcome; breaks the connection when the client takes too little.
    fn book(
        &mut self,
        context: &mut Context<'_>,
        offered: usize,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &outcome {
            // Nothing waits for the client.
            Poll::Ready(Ok(count)) if *count == offered => self.drain = None,
            Poll::Ready(Ok(count)) => {
                if let Some(drain) = &mut self.drain {
                    drain.taken += *count as u64;
                    if drain.taken >= DRAIN_BYTES {
                        self.drain = None;
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let drain = self.drain.get_or_insert_with(|| Drain {
                    end: after(DRAIN_TIME),
                    taken: 0,
                });
                if drain.end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(too_slow("reads its response too slowly")));
                }
            }
        }
        outcome
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let requests = self.phase.requests();
        if self.phase.responding() || self.requests != requests {
            self.header = None;
            self.requests = requests;
        }
        if !self.phase.responding() && buffer.filled().len() > before && self.header.is_none() {
            self.header = Some(after(HEADER_TIME));
        }
        if outcome.is_pending()
            && let Some(header) = &mut self.header
            && header.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(too_slow("did not complete its request header in time")));
        }
        outcome
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.book(context, bytes.len(), outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        let offered = slices.iter().map(|slice| slice.len()).sum();
        self.book(context, offered, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn after(time: std::time::Duration) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::now() + time))
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the client {what}"))
}
