//! The parent's side of a zygote.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::protocol::{Event, Request, pair, standard_streams};
use crate::fork::Origin;

/// A zygote of this process.
#[derive(Debug)]
pub struct Zygote {
    master: OwnedFd,
    origin: Origin,
}

impl Zygote {
    /// The two ends of a new zygote's master socket: ours, and what the zygote serves. It holds
    /// already what tells the zygote whose it is, so that no process is started that does not know.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> io::Result<(Zygote, OwnedFd)> {
        let (master, theirs) = pair()?;
        let parent = pidfd_open(getpid(), PidfdFlags::empty())?;
        Request::Belong.send(master.as_fd(), &[parent.as_fd()])?;
        Ok((Zygote { master, origin: Origin::here() }, theirs))
    }

    /// Connects a pool.
    ///
    /// # Errors
    /// The zygote has ended, or the process has no descriptors left.
    pub fn connect(&self) -> io::Result<Connection> {
        let (socket, theirs) = pair()?;
        Request::Connect.send(self.master.as_fd(), &[theirs.as_fd()])?;
        Ok(Connection { socket, origin: Origin::here(), _guard: None })
    }

    /// Makes the zygote end, and with it all workers that it has started; not that of the process
    /// from which this one was forked.
    pub fn end(self) {
        if self.origin.is_here() {
            // One that has ended cannot be told.
            let _ = Request::Leave.send(self.master.as_fd(), &[]);
        }
    }
}

/// A pool's line to the zygote. Dropping it ends the pool's workers.
pub struct Connection {
    socket: OwnedFd,
    origin: Origin,
    /// Dropped after the socket.
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Connection {
    /// Keeps something that is dropped after hanging up.
    #[must_use]
    pub fn with_guard(mut self, guard: Box<dyn Any + Send + Sync>) -> Connection {
        self._guard = Some(guard);
        self
    }

    /// Asks for a worker. The answer is an [`Event`].
    ///
    /// # Errors
    /// The zygote has ended, or there are too many descriptors.
    pub fn start(&self, worker: u64, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let (streams, standard) = standard_streams();
        let all: Vec<BorrowedFd<'_>> = descriptors.iter().copied().chain(standard).collect();
        Request::Start { worker, streams }.send(self.socket.as_fd(), &all)
    }

    /// Waits for the next event; `None` once the zygote has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&self) -> io::Result<Option<(Event, Option<OwnedFd>)>> {
        Event::receive(self.socket.as_fd())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // A zygote that has ended cannot be told.
            let _ = Request::Leave.send(self.socket.as_fd(), &[]);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
