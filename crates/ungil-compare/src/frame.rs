//! The wire between experiment and host: a message as JSON, then a payload of raw bytes.
//!
//! ```text
//! u32 length of the message | u64 length of the payload | message | payload     (little endian)
//! ```
//!
//! The function under test runs in the process at the other end and may write anything into
//! any descriptor it finds, so lengths are checked before memory is taken for them.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message; a log of a million tasks fits.
const MESSAGE_LIMIT_BYTES: u32 = 1 << 29;
/// The longest payload; the senders stay below it ([`crate::host::PAYLOAD_LIMIT_BYTES`]).
const PAYLOAD_LIMIT_BYTES: u64 = 1 << 32;

/// Writes one frame.
///
/// # Errors
/// Whatever the writer says, and `InvalidData` for a message past the limit.
pub fn write(to: &mut impl Write, message: &impl Serialize, payload: &[u8]) -> io::Result<()> {
    let message = serde_json::to_vec(message)?;
    let length = u32::try_from(message.len()).ok().filter(|length| *length <= MESSAGE_LIMIT_BYTES);
    let length = length.ok_or_else(|| invalid("the message is too long for a frame"))?;
    let mut head = Vec::with_capacity(12 + message.len());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    head.extend_from_slice(&message);
    to.write_all(&head)?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads one frame.
///
/// # Errors
/// `UnexpectedEof` if the other end closed, `InvalidData` for anything that is no frame.
pub fn read<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<(M, Vec<u8>)> {
    let mut head = [0_u8; 12];
    from.read_exact(&mut head)?;
    let [m0, m1, m2, m3, p0, p1, p2, p3, p4, p5, p6, p7] = head;
    let message_bytes = u32::from_le_bytes([m0, m1, m2, m3]);
    let payload_bytes = u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
    if message_bytes > MESSAGE_LIMIT_BYTES || payload_bytes > PAYLOAD_LIMIT_BYTES {
        return Err(invalid("the lengths in a frame are impossible"));
    }
    let message = read_bytes(from, u64::from(message_bytes))?;
    let payload = read_bytes(from, payload_bytes)?;
    Ok((serde_json::from_slice(&message)?, payload))
}

/// Memory grows with what arrives, not with what was promised.
fn read_bytes(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(1 << 20) as usize);
    from.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a frame ended early"))
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Failure, FailureKind, Reply};

    #[test]
    fn message_and_payload_arrive_as_they_were_sent() {
        let reply = Reply::Failed(Failure::new(FailureKind::Raised, "a \"quoted\" reason"));
        let mut wire = Vec::new();
        write(&mut wire, &reply, b"\0payload\xff").unwrap();
        let (read_back, payload): (Reply, _) = read(&mut wire.as_slice()).unwrap();
        assert_eq!((read_back, payload.as_slice()), (reply, b"\0payload\xff".as_slice()));
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error_and_never_a_message() {
        let mut wire = Vec::new();
        write(&mut wire, &Reply::Done, b"payload").unwrap();
        for length in 0..wire.len() {
            assert!(read::<Reply>(&mut &wire[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn impossible_lengths_take_no_memory() {
        for head in [[0xff_u8; 12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]] {
            assert!(read::<Reply>(&mut head.as_slice()).is_err());
        }
    }
}
