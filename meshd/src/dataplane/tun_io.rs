//! How do packets come from the TUN and go back into it?

use std::{io, time::Instant};

use mesh_core::{Node, TransmitQueue};
use platform::tun::{Coalescer, MAX_FRAME, Tun};

use crate::problem::{self, Problem};

/// Reads per turn. With offload one read is up to 64 KiB, so this is 1 MiB of bulk before the sockets are served.
const READS_PER_TURN: usize = 16;

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

    /// Waits for a packet.
    pub(super) async fn readable(&self) {
        // An error is met again by the read that follows, which reports it.
        let _later = self.tun.readable().await;
    }

    /// Gives the node what waits, within the budget.
    pub(super) fn read(
        &mut self,
        node: &mut Node,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> Result<(), Problem> {
        for _ in 0..READS_PER_TURN {
            match self.tun.try_read(&mut self.frame) {
                Ok(len) => node.handle_tun(&mut self.frame[..len], now, transmit),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(())
    }

    /// Writes all packets.
    pub(super) fn write<'a>(
        &mut self,
        packets: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Problem> {
        match self.tun.write_batch(packets, &mut self.coalescer) {
            Ok(report) => {
                if let Some(error) = report.refusal {
                    tracing::debug!(%error, refused = report.refused, "the interface refused packets");
                }
                Ok(())
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&self, error: &io::Error) -> Problem {
        problem::operation_failed(format!("use the interface {}", self.tun.name()), error)
    }
}
