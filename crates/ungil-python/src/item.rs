//! Items of `map` and their results, one behind the other in a few bytes each.
//!
//! ```text
//! item:   a plain value                        the one argument
//!         MANY count (one byte), plain values  so many arguments
//!         HEAD length, head                    a call, as `codec` encodes it
//! result: a plain value
//!         HEAD length, head                    a value, as `codec` encodes it
//!         ERROR length, head                   an encoded exception
//! ```
//!
//! What is long, or has buffers out of band, is not among them: it travels by itself, as a task.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::codec::{self, Decoded, Define, Encoded, damaged};

const MANY: u8 = b'm';
const HEAD: u8 = b'H';
const ERROR: u8 = b'X';

/// An item or a result that is longer, in bytes, travels by itself.
const ITEM_MAX: usize = 16 << 10;

/// The first byte of the description of a range; behind it the first number and the step.
const RANGE: u8 = b'R';

/// Appends an argument, or several, of plain types; `false`, and nothing appended, if there are
/// others among them.
pub fn push_plain(bytes: &mut Vec<u8>, arguments: Arguments<'_, '_>) -> bool {
    let start = bytes.len();
    let is_plain = match arguments {
        Arguments::One(value) => codec::push_short_plain(bytes, value),
        Arguments::Many(values) => match u8::try_from(values.len()) {
            Ok(count) => {
                bytes.extend([MANY, count]);
                values.iter().all(|value| codec::push_short_plain(bytes, &value))
            }
            Err(_) => false,
        },
    };
    if !is_plain {
        bytes.truncate(start);
    }
    is_plain
}

/// What one item is called with.
#[derive(Clone, Copy)]
pub enum Arguments<'a, 'py> {
    /// One argument.
    One(&'a Bound<'py, PyAny>),
    /// Any number of them.
    Many(&'a Bound<'py, PyTuple>),
}

/// Appends an encoded call or value; `false` if it must travel by itself.
pub fn push_encoded(bytes: &mut Vec<u8>, encoded: &Encoded) -> bool {
    push_head(bytes, HEAD, encoded)
}

/// Appends a result; what it is encoded as if it must travel by itself.
pub fn push_result(
    bytes: &mut Vec<u8>,
    value: &Bound<'_, PyAny>,
    pickler: &dyn codec::Pickler,
) -> PyResult<Option<Encoded>> {
    let start = bytes.len();
    if codec::push_short_plain(bytes, value) {
        return Ok(None);
    }
    bytes.truncate(start);
    let encoded = codec::encode_value(value, pickler)?;
    Ok(if push_encoded(bytes, &encoded) { None } else { Some(encoded) })
}

/// Appends an exception; `false` if it must travel by itself.
pub fn push_error(bytes: &mut Vec<u8>, encoded: &Encoded) -> bool {
    push_head(bytes, ERROR, encoded)
}

fn push_head(bytes: &mut Vec<u8>, kind: u8, encoded: &Encoded) -> bool {
    let Some(head) = encoded.whole().filter(|head| head.len() <= ITEM_MAX) else { return false };
    bytes.push(kind);
    bytes.extend_from_slice(&(head.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(head);
    true
}

/// The description of a range.
pub fn describe_range(first: i64, step: i64) -> [u8; 17] {
    let mut description = [RANGE; 17];
    description[1..9].copy_from_slice(&first.to_ne_bytes());
    description[9..].copy_from_slice(&step.to_ne_bytes());
    description
}

/// Where a chunk's items come from.
pub enum Reader<'a> {
    /// The numbers of a range.
    Range {
        /// The next one.
        next: i64,
        /// What is added for the one after it.
        step: i64,
    },
    /// Encoded items.
    Encoded(&'a [u8]),
}

/// A decoded item.
pub enum Call<'py> {
    /// One positional argument.
    One(Bound<'py, PyAny>),
    /// Any arguments.
    Any(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>),
}

impl<'a> Reader<'a> {
    /// Reads a chunk's items from the first one on.
    pub fn new(items: &'a ungil_pool::ChunkItems) -> Option<Reader<'a>> {
        let description = items.description.bytes();
        if description.first() != Some(&RANGE) {
            return Some(Reader::Encoded(&items.bytes));
        }
        let number = |start: usize| {
            let bytes = description.get(start..start + 8)?.try_into().ok()?;
            Some(i64::from_ne_bytes(bytes))
        };
        let (first, step) = (number(1)?, number(9)?);
        let next = first.wrapping_add(step.wrapping_mul(i64::from(items.first)));
        Some(Reader::Range { next, step })
    }

    /// The next item.
    pub fn next<'py>(&mut self, py: Python<'py>, define: Define<'_>) -> PyResult<Call<'py>> {
        let bytes = match self {
            Reader::Range { next, step } => {
                let value = next.into_pyobject(py)?.into_any();
                *next = next.wrapping_add(*step);
                return Ok(Call::One(value));
            }
            Reader::Encoded(bytes) => bytes,
        };
        if let Some(number) = codec::take_number(py, bytes) {
            return Ok(Call::One(number));
        }
        match bytes.first() {
            Some(&HEAD) => {
                let head = take_head(bytes)?;
                match codec::decode_head(py, head, define)? {
                    Decoded::Call(args, kwargs) => Ok(Call::Any(args, kwargs)),
                    Decoded::Value(call) => {
                        let (args, kwargs) = codec::unpack_call(&call)?;
                        Ok(Call::Any(args, kwargs))
                    }
                }
            }
            Some(&MANY) => {
                let count = *bytes.get(1).ok_or_else(damaged)?;
                *bytes = &bytes[2..];
                let values: PyResult<Vec<_>> =
                    (0..count).map(|_| codec::take_short_plain(py, bytes)).collect();
                Ok(Call::Any(PyTuple::new(py, values?)?, None))
            }
            _ => codec::take_short_plain(py, bytes).map(Call::One),
        }
    }
}

/// A decoded result.
pub enum Answer<'py> {
    /// The function returned this.
    Returned(Bound<'py, PyAny>),
    /// It raised; this is how an exception is encoded.
    Raised(Bound<'py, PyAny>),
}

/// Takes the next result from encoded ones.
pub fn take_result<'py>(py: Python<'py>, bytes: &mut &[u8]) -> PyResult<Answer<'py>> {
    let kind = *bytes.first().ok_or_else(damaged)?;
    if kind != HEAD && kind != ERROR {
        return codec::take_short_plain(py, bytes).map(Answer::Returned);
    }
    let head = take_head(bytes)?;
    match codec::decode_head(py, head, &|_| Ok(()))? {
        Decoded::Value(value) if kind == HEAD => Ok(Answer::Returned(value)),
        Decoded::Value(value) => Ok(Answer::Raised(value)),
        Decoded::Call(..) => Err(damaged()),
    }
}

/// Passes over the next result.
pub fn skip_result(bytes: &mut &[u8]) -> PyResult<()> {
    match bytes.first() {
        Some(&(HEAD | ERROR)) => take_head(bytes).map(drop),
        Some(_) => codec::skip_short_plain(bytes),
        None => Err(damaged()),
    }
}

fn take_head<'a>(bytes: &mut &'a [u8]) -> PyResult<&'a [u8]> {
    let (length, rest) =
        bytes.get(1..).and_then(|it| it.split_first_chunk::<4>()).ok_or_else(damaged)?;
    let length = u32::from_ne_bytes(*length) as usize;
    let (head, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(head)
}
