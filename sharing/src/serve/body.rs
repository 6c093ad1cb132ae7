//! How do response bodies leave without blocking the runtime and without filling memory? Blocks are made on blocking
//! threads, one ahead of the one being sent.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::phase::Responding;

/// Why a body ended early; the connection is then broken, so that no client takes a part for the whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The file is no longer the one whose header fields were sent.
    #[error("the file changed while it was sent")]
    Changed,
    /// The reader lost its right, or the share ended.
    #[error("the right to read was taken back while the file was sent")]
    Revoked,
    /// Reading failed.
    #[error("reading: {0}")]
    Read(#[from] std::io::Error),
    /// The runtime is shutting down.
    #[error("the server is stopping")]
    Stopping,
}

/// Makes the blocks of one body, on blocking threads.
pub(crate) trait BlockSource: Send + 'static {
    /// The next block, not empty; `None` at the end.
    fn next_block(&mut self) -> Result<Option<Bytes>, BodyError>;

    /// Whether a block that was made may still be sent.
    fn may_send(&self) -> bool;
}

/// A response body.
pub(crate) struct Body {
    content: Content,
    /// Tells the connection that a response is under way, until the body is dropped.
    _responding: Option<Responding>,
}

enum Content {
    Full(Option<Bytes>),
    Blocks(Blocks),
}

struct Blocks {
    /// The block being made; `None` after the end or an error.
    next: Option<Making>,
    threads: Arc<Semaphore>,
    /// Bytes still to come, where the length was promised.
    left: Option<u64>,
}

type Making = JoinHandle<Result<Made, BodyError>>;

/// A block and the source of the following ones.
type Made = (Box<dyn BlockSource>, Option<Bytes>);

impl Body {
    pub(crate) fn empty() -> Self {
        Self::of(Content::Full(None))
    }

    pub(crate) fn full(content: Bytes) -> Self {
        Self::of(Content::Full((!content.is_empty()).then_some(content)))
    }

    /// A body whose blocks come from `source`; `length` in bytes where it is known. At most as many blocks are made at one
    /// time as `threads` has permits. Must be called in a tokio runtime.
    pub(crate) fn blocks(
        source: Box<dyn BlockSource>,
        length: Option<u64>,
        threads: Arc<Semaphore>,
    ) -> Self {
        Self::of(Content::Blocks(Blocks {
            next: Some(make(source, threads.clone())),
            threads,
            left: length,
        }))
    }

    pub(crate) fn with(mut self, responding: Responding) -> Self {
        self._responding = Some(responding);
        self
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            _responding: None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.content {
            Content::Full(content) => {
                Poll::Ready(content.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Content::Blocks(blocks) => {
                let block = ready!(blocks.poll_block(context));
                Poll::Ready(block.transpose().map(|block| block.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(content) => content.is_none(),
            Content::Blocks(blocks) => blocks.next.is_none() || blocks.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match &self.content {
            Content::Full(content) => content.as_ref().map_or(0, Bytes::len) as u64,
            Content::Blocks(Blocks {
                left: Some(left), ..
            }) => *left,
            Content::Blocks(Blocks { left: None, .. }) => return SizeHint::default(),
        };
        SizeHint::with_exact(exact)
    }
}

impl Blocks {
    fn poll_block(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Some(making) = &mut self.next else {
            return Poll::Ready(Ok(None));
        };
        let made = ready!(Pin::new(making).poll(context));
        self.next = None;
        let (source, block) = made.map_err(|_| BodyError::Stopping)??;
        let Some(block) = block else {
            return Poll::Ready(Ok(None));
        };
        if !source.may_send() {
            return Poll::Ready(Err(BodyError::Revoked));
        }
        self.left = self
            .left
            .map(|left| left.saturating_sub(block.len() as u64));
        if self.left != Some(0) {
            self.next = Some(make(source, self.threads.clone()));
        }
        Poll::Ready(Ok(Some(block)))
    }
}

/// Starts making the next block at once, whether or not anybody polls for it: that is the read-ahead.
fn make(mut source: Box<dyn BlockSource>, threads: Arc<Semaphore>) -> Making {
    tokio::spawn(async move {
        let Ok(permit) = threads.acquire_owned().await else {
            return Err(BodyError::Stopping);
        };
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let block = source.next_block()?;
            Ok((source, block))
        });
        made.await.map_err(|_| BodyError::Stopping)?
    })
}
