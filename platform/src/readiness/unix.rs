//! By `poll`: with four descriptors as quick as any other way, without anything to register.

use super::{Additional, Ready, alarm::Alarm};
use crate::{tun::Tun, udp::UdpSocket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Whether more sockets than the first two can be waited for.
pub const ADDITIONAL_SOCKETS: bool = true;

/// The waiting side.
#[derive(Debug)]
pub struct Watch {
    ear: UnixStream,
    bell: Bell,
    alarm: Alarm,
    additional: Vec<Additional>,
}

/// The ringing side, one for as many threads as want it.
#[derive(Debug, Clone)]
pub struct Bell {
    clapper: Arc<UnixStream>,
    /// So that a bell that was rung and not heard yet costs nothing to ring again.
    rung: Arc<AtomicBool>,
}

impl Watch {
    /// A watch and its bell.
    pub fn new() -> io::Result<(Self, Bell)> {
        let (ear, clapper) = UnixStream::pair()?;
        ear.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        let bell = Bell {
            clapper: Arc::new(clapper),
            rung: Arc::new(AtomicBool::new(false)),
        };
        let watch = Self {
            ear,
            bell: bell.clone(),
            alarm: Alarm::new(),
            additional: Vec::new(),
        };
        Ok((watch, bell))
    }

    /// Its bell.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Waits until something is ready, for `timeout` at most; `None` waits for ever. The time that the machine sleeps counts, if
    /// the timeout is not short. There may be more sockets beside the two;
    /// [`Self::additional`] then tells which of those have something.
    pub fn wait(
        &mut self,
        tun: &Tun,
        (sockets, more): ([Option<&UdpSocket>; 2], &[UdpSocket]),
        timeout: Option<Duration>,
    ) -> io::Result<Ready> {
        self.additional.clear();
        // An absent socket, or alarm, is replaced by one of the others, and its answer is not looked at.
        let absent = self.ear.as_fd();
        let socket = |at: usize| sockets[at].map_or(absent, UdpSocket::descriptor);
        let alarm = self.alarm.set(timeout).unwrap_or(absent);
        let fds = [absent, tun.descriptor(), socket(0), socket(1), alarm];
        let asked = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut few = fds.map(asked);
        let mut many: Vec<PollFd<'_>>;
        // Most of the time there are none, and then nothing is allocated.
        let polled = if more.is_empty() {
            &mut few[..]
        } else {
            let all = fds
                .into_iter()
                .chain(more.iter().map(UdpSocket::descriptor));
            many = all.map(asked).collect();
            &mut many[..]
        };
        match poll(polled, timeout.map(timespec).as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| !polled[at].revents().is_empty();
        let has_error = |at: usize| polled[at].revents().contains(PollFlags::ERR);
        let found = Ready {
            bell: ready(0),
            tun: ready(1),
            sockets: [0, 1].map(|at| sockets[at].is_some() && ready(2 + at)),
            errors: [0, 1].map(|at| sockets[at].is_some() && has_error(2 + at)),
        };
        let more = (0..more.len()).filter(|at| ready(fds.len() + at));
        self.additional.extend(more.map(|at| Additional {
            socket: at,
            error: has_error(fds.len() + at),
        }));
        if found.bell {
            self.hear();
        }
        Ok(found)
    }

    /// What the last wait found at the additional sockets.
    pub fn additional(&self) -> &[Additional] {
        &self.additional
    }

    /// Waits until `socket` may take a datagram, for `timeout` at most; returns whether it may.
    pub fn wait_writable(&self, socket: &UdpSocket, timeout: Duration) -> io::Result<bool> {
        loop {
            let descriptor = socket.descriptor();
            let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
            match poll(&mut polled, Some(&timespec(timeout))) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
                Ok(_) if polled[0].revents().contains(PollFlags::OUT) => return Ok(true),
                // An error that waits ends every wait, and is worth less than what is to be sent.
                Ok(_) if socket.next_error().is_some() => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Silences the bell before what it was rung for is looked at, so that no ring is lost.
    fn hear(&self) {
        let mut heard = [0; 16];
        while matches!((&self.ear).read(&mut heard), Ok(count) if count == heard.len()) {}
        self.bell.rung.store(false, Ordering::SeqCst);
    }
}

impl Bell {
    /// Ends the wait under way, or the next one.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // A full pipe is rung enough, and without an ear there is nobody to tell.
            let _heard = (&*self.clapper).write(&[1]);
        }
    }
}

impl UdpSocket {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.std().as_fd()
    }
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
