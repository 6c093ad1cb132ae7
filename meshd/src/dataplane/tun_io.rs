//! How do packets come from the TUN and go back into it?

use std::io;

use platform::tun::{Coalescer, MAX_FRAME, Tun, WriteReport};

use super::moderation::Look;
use crate::problem::{self, Problem};

/// Reads per turn: small packets fill one or a few trains.
const READS_PER_TURN: usize = 64;
/// Bytes after which a turn reads no more: two super-packets, so that what comes in never waits long behind bulk.
const BYTES_PER_TURN: usize = 96 << 10;

/// The interface with its buffers.
pub(super) struct TunIo {
    tun: Tun,
    frame: Vec<u8>,
    coalescer: Coalescer,
}

impl TunIo {
    pub(super) fn new(tun: Tun) -> Self {
        Self {
            frame: vec![0; MAX_FRAME],
            coalescer: tun.coalescer(),
            tun,
        }
    }

    /// For whoever waits for it.
    pub(super) fn device(&self) -> &Tun {
        &self.tun
    }

    /// Gives `each` what waits, within the budget.
    pub(super) fn read(&mut self, mut each: impl FnMut(&mut [u8])) -> Result<Look, Problem> {
        let (mut look, mut bytes) = (Look::default(), 0);
        for _ in 0..READS_PER_TURN {
            match self.tun.try_read(&mut self.frame) {
                Ok(len) => {
                    each(&mut self.frame[..len]);
                    look.arrivals += 1;
                    bytes += len;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(look),
                Err(error) => return Err(self.lost(&error)),
            }
            if bytes >= BYTES_PER_TURN {
                break;
            }
        }
        look.more = true;
        Ok(look)
    }

    /// Takes packets to be written by the next [`Self::flush`], or earlier.
    pub(super) fn put<'a>(
        &mut self,
        packets: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Problem> {
        let written = self.tun.put(packets, &mut self.coalescer);
        self.report(written)
    }

    /// Writes what was put.
    pub(super) fn flush(&mut self) -> Result<(), Problem> {
        let written = self.tun.flush(&mut self.coalescer);
        self.report(written)
    }

    fn report(&self, written: io::Result<WriteReport>) -> Result<(), Problem> {
        let report = written.map_err(|error| self.lost(&error))?;
        if let Some(error) = report.refusal {
            tracing::debug!(%error, refused = report.refused, "the interface refused packets");
        }
        Ok(())
    }

    fn lost(&self, error: &io::Error) -> Problem {
        problem::operation_failed(format!("use the interface {}", self.tun.name()), error)
    }
}
