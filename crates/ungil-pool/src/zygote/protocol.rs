//! The messages between a pool and the zygote. Both ends are the same build of ungil.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::cell::Ending;

/// The kernel passes at most this many descriptors with one message.
pub const DESCRIPTORS_MAX: usize = 253;

const MESSAGE_BYTES: usize = 40;

/// Which of the descriptors 0, 1 and 2 the parent has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandardStreams(pub [bool; 3]);

/// What the parent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Serve the process that this pidfd is of; the first message on a master socket.
    Belong,
    /// Serve another pool; its socket comes along.
    Connect,
    /// Start a worker; its descriptors come along.
    Start {
        /// The worker's number in its pool.
        worker: u64,
        /// Which standard streams are the last of the descriptors.
        streams: StandardStreams,
    },
    /// The pool is through with its workers, or, on the master socket, the parent with the zygote. To
    /// hang up would not do: a process that was forked from the parent may have copies of its sockets.
    Leave,
}

/// What the zygote tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker was started.
    Started {
        /// The worker's number in its pool.
        worker: u64,
        /// Its process number.
        pid: u32,
    },
    /// A worker could not be started.
    Refused {
        /// The worker's number in its pool.
        worker: u64,
        /// The system's error number.
        error: i32,
    },
    /// A worker has ended.
    Ended {
        /// The worker's number in its pool.
        worker: u64,
        /// How.
        ending: Ending,
    },
}

type Words = [u64; MESSAGE_BYTES / 8];

impl Request {
    fn words(self) -> Words {
        match self {
            Request::Connect => [1, 0, 0, 0, 0],
            Request::Start { worker, streams: StandardStreams([input, output, error]) } => {
                [2, worker, u64::from(input), u64::from(output), u64::from(error)]
            }
            Request::Leave => [3, 0, 0, 0, 0],
            Request::Belong => [4, 0, 0, 0, 0],
        }
    }

    fn from_words(words: Words) -> Option<Request> {
        match words {
            [1, ..] => Some(Request::Connect),
            [2, worker, input, output, error] => Some(Request::Start {
                worker,
                streams: StandardStreams([input != 0, output != 0, error != 0]),
            }),
            [3, ..] => Some(Request::Leave),
            [4, ..] => Some(Request::Belong),
            _ => None,
        }
    }

    /// Sends it, with descriptors.
    pub fn send(self, socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(socket, self.words(), descriptors)
    }

    /// Receives one; `None` when the other end hung up.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        let Some((words, descriptors)) = receive(socket)? else { return Ok(None) };
        Ok(Some((Request::from_words(words).ok_or_else(damaged)?, descriptors)))
    }
}

impl Event {
    fn words(&self) -> Words {
        match *self {
            Event::Started { worker, pid } => [1, worker, u64::from(pid), 0, 0],
            Event::Refused { worker, error } => [2, worker, error as u64, 0, 0],
            Event::Ended { worker, ending: Ending::Exited(code) } => [3, worker, code as u64, 0, 0],
            Event::Ended { worker, ending: Ending::Killed(signal) } => {
                [4, worker, signal as u64, 0, 0]
            }
        }
    }

    fn from_words(words: Words) -> Option<Event> {
        let [kind, worker, value, ..] = words;
        match kind {
            1 => Some(Event::Started { worker, pid: value as u32 }),
            2 => Some(Event::Refused { worker, error: value as i32 }),
            3 => Some(Event::Ended { worker, ending: Ending::Exited(value as i32) }),
            4 => Some(Event::Ended { worker, ending: Ending::Killed(value as i32) }),
            _ => None,
        }
    }

    /// Sends it, with a descriptor if there is one.
    pub fn send(
        &self,
        socket: BorrowedFd<'_>,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        send(socket, self.words(), descriptor.as_slice())
    }

    /// Receives one; `None` when the other end hung up.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Event, Option<OwnedFd>)>> {
        let Some((words, mut descriptors)) = receive(socket)? else { return Ok(None) };
        Ok(Some((Event::from_words(words).ok_or_else(damaged)?, descriptors.pop())))
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message of the zygote's socket is damaged")
}

fn send(socket: BorrowedFd<'_>, words: Words, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a worker can inherit {DESCRIPTORS_MAX} descriptors at most, and {} are wanted",
                descriptors.len()
            ),
        ));
    }
    let parts = [IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Words, Vec<OwnedFd>)>> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let length = match received {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if length == 0 {
        return Ok(None);
    }
    if length != MESSAGE_BYTES {
        return Err(damaged());
    }
    let mut words = [0; MESSAGE_BYTES / 8];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
    }
    Ok(Some((words, descriptors)))
}

/// A socket pair that keeps messages apart.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((above_standard(one)?, above_standard(other)?))
}

/// The descriptor under a number that is none of a standard stream's. A program that was started
/// without one would hand it to its workers as that stream, and a zygote puts others there.
///
/// # Errors
/// The process has no descriptors left.
pub fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&descriptor, 3)?)
}

/// Those of the descriptors 0, 1 and 2 that this process has, and would hand to a program that it
/// executes: in one that was started without them, anything may be there that is open for itself,
/// memory of a pool's included.
pub fn standard_streams() -> (StandardStreams, Vec<BorrowedFd<'static>>) {
    let mut streams = StandardStreams::default();
    let mut descriptors = Vec::new();
    for number in 0..3 {
        // SAFETY: the borrowed descriptor is only asked whether it is open, and then sent; if the
        // program closes it meanwhile, the system says so.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_handed_on = rustix::io::fcntl_getfd(descriptor)
            .is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC));
        if is_handed_on {
            streams.0[number as usize] = true;
            descriptors.push(descriptor);
        }
    }
    (streams, descriptors)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::net::SendFlags;

    use super::{DESCRIPTORS_MAX, Event, MESSAGE_BYTES, Request, StandardStreams, pair};
    use crate::cell::Ending;

    #[test]
    fn requests_arrive_with_their_descriptors() {
        let (ours, theirs) = pair().expect("descriptors");
        let streams = StandardStreams([true, false, true]);
        let start = Request::Start { worker: u64::MAX, streams };
        let requests = [Request::Connect, start, Request::Leave, Request::Belong];
        for (count, request) in requests.into_iter().enumerate() {
            let sent: Vec<_> = std::iter::repeat_n(theirs.as_fd(), count).collect();
            request.send(ours.as_fd(), &sent).expect("room");
            let received = Request::receive(theirs.as_fd()).expect("sound");
            let (received, descriptors) = received.expect("it is open");
            assert_eq!((received, descriptors.len()), (request, count));
        }
        drop(ours);
        assert!(Request::receive(theirs.as_fd()).expect("sound").is_none());
    }

    #[test]
    fn events_arrive_as_they_were_sent() {
        let (ours, theirs) = pair().expect("descriptors");
        let events = [
            Event::Started { worker: 1 << 40, pid: u32::MAX },
            Event::Refused { worker: 2, error: libc::EAGAIN },
            Event::Ended { worker: 3, ending: Ending::Exited(255) },
            Event::Ended { worker: 4, ending: Ending::Exited(-1) },
            Event::Ended { worker: u64::MAX, ending: Ending::Killed(64) },
        ];
        for event in events {
            event.send(ours.as_fd(), None).expect("room");
            let (received, descriptor) =
                Event::receive(theirs.as_fd()).expect("sound").expect("it is open");
            assert_eq!(received, event);
            assert!(descriptor.is_none());
        }
        let event = Event::Started { worker: 1, pid: 1 };
        event.send(ours.as_fd(), Some(theirs.as_fd())).expect("room");
        let received = Event::receive(theirs.as_fd()).expect("sound").expect("it is open");
        assert!(received.1.is_some());
        drop(ours);
        assert!(Event::receive(theirs.as_fd()).expect("sound").is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (ours, theirs) = pair().expect("descriptors");
        for bytes in [&[0; MESSAGE_BYTES][..], &[9; MESSAGE_BYTES], &[1], &[1; MESSAGE_BYTES - 1]] {
            rustix::net::send(&ours, bytes, SendFlags::empty()).expect("room");
            assert!(Request::receive(theirs.as_fd()).is_err(), "{bytes:?}");
            rustix::net::send(&ours, bytes, SendFlags::empty()).expect("room");
            assert!(Event::receive(theirs.as_fd()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn more_descriptors_than_the_kernel_passes_are_refused_before_they_are_sent() {
        let (ours, theirs) = pair().expect("descriptors");
        let many = vec![theirs.as_fd(); DESCRIPTORS_MAX + 1];
        assert!(Request::Connect.send(ours.as_fd(), &many).is_err());
        let most = &many[..DESCRIPTORS_MAX];
        Request::Connect.send(ours.as_fd(), most).expect("room");
        let received = Request::receive(theirs.as_fd()).expect("sound").expect("it is open");
        assert_eq!(received.1.len(), DESCRIPTORS_MAX);
    }

    #[test]
    fn a_descriptor_arrives_as_itself() {
        let (ours, theirs) = pair().expect("descriptors");
        let (reader, writer) = std::io::pipe().expect("descriptors");
        let event = Event::Started { worker: 1, pid: 1 };
        event.send(ours.as_fd(), Some(writer.as_fd())).expect("room");
        let (_, descriptor) = Event::receive(theirs.as_fd()).expect("sound").expect("it is open");
        let descriptor: OwnedFd = descriptor.expect("it was sent");
        drop(writer);
        std::fs::File::from(descriptor).write_all(b"hello").expect("the pipe is open");
        let text = std::io::read_to_string(reader).expect("the pipe is open");
        assert_eq!(text, "hello");
    }
}
