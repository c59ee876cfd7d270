use std::error::Error;
use std::fmt;
use std::io;

/// A value that no side that follows the protocol writes.
///
/// Whoever reads one must treat the peer as broken: what else it wrote is worth nothing either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted {
    what: &'static str,
    found: u64,
}

impl Corrupted {
    pub(crate) const fn new(what: &'static str, found: u64) -> Corrupted {
        Corrupted { what, found }
    }

    /// The value that was found.
    pub fn found(&self) -> u64 {
        self.found
    }
}

impl fmt::Display for Corrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "shared memory is corrupted: {}, found {:#x}", self.what, self.found)
    }
}

impl Error for Corrupted {}

impl From<Corrupted> for io::Error {
    fn from(error: Corrupted) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
