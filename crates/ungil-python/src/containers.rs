//! Small tuples, lists and dicts of plain values, in the codec's own code.
//!
//! What pickle promises stays true: what is one object before is one object after. Values of plain
//! types cannot be told from their copies but by their identity; containers can. So one that is met
//! twice, in itself even, makes the whole value one for pickle, and so does one that is large: there
//! pickle, which writes a repeated string once, may need less room.
//!
//! ```text
//! one byte for the type, the number of elements, then so many values; in a dict, keys and values
//! ```

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::codec::{Buffers, Encoded, damaged, pop_plain, push_plain, take};

const TUPLE: u8 = b'(';
const LIST: u8 = b'[';
const DICT: u8 = b'{';

/// The deepest nesting that is written and read here; of what a worker sent, it bounds the stack.
const DEPTH_MAX: usize = 16;
/// More containers than these could not be looked through for one that was there already.
const CONTAINERS_MAX: usize = 32;
/// What is longer together, in bytes, is pickled.
const LENGTH_MAX: usize = 2048;

/// The containers that were met in one call or result.
pub struct Met {
    places: [*mut ffi::PyObject; CONTAINERS_MAX],
    count: usize,
}

impl Met {
    /// None so far.
    pub fn new() -> Met {
        Met { places: [ptr::null_mut(); CONTAINERS_MAX], count: 0 }
    }

    /// Appends a container; `false`, with the head in any state, if it is none, or none for this
    /// code.
    pub fn push(&mut self, encoded: &mut Encoded, value: &Bound<'_, PyAny>, depth: usize) -> bool {
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            // The empty tuple is one object wherever it is.
            (tuple.is_empty() || self.enter(value, depth))
                && encoded.push_counted(TUPLE, tuple.len())
                && tuple.iter_borrowed().all(|each| self.push_element(encoded, &each, depth))
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.enter(value, depth)
                && encoded.push_counted(LIST, list.len())
                && list.iter().all(|each| self.push_element(encoded, &each, depth))
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.enter(value, depth)
                && encoded.push_counted(DICT, dict.len())
                && dict.iter().all(|(key, each)| {
                    self.push_element(encoded, &key, depth)
                        && self.push_element(encoded, &each, depth)
                })
        } else {
            false
        }
    }

    fn push_element(
        &mut self,
        encoded: &mut Encoded,
        value: &Bound<'_, PyAny>,
        depth: usize,
    ) -> bool {
        let is_written = push_plain(encoded, value) || self.push(encoded, value, depth + 1);
        is_written && encoded.length() <= LENGTH_MAX
    }

    /// Notes a container; `false` if it was there already, or is one too many or too deep.
    fn enter(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> bool {
        let place = value.as_ptr();
        if depth >= DEPTH_MAX
            || self.count == CONTAINERS_MAX
            || self.places[..self.count].contains(&place)
        {
            return false;
        }
        self.places[self.count] = place;
        self.count += 1;
        true
    }
}

/// Reads a container that begins with this byte; `None` if none does.
pub fn pop<'py>(
    py: Python<'py>,
    kind: u8,
    rest: &mut &[u8],
    buffers: Buffers<'_>,
    depth: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !matches!(kind, TUPLE | LIST | DICT) {
        return Ok(None);
    }
    let count = u32::from_ne_bytes(take(rest, 4)?.try_into().map_err(|_| damaged())?) as usize;
    // Every element has a byte at least.
    if depth >= DEPTH_MAX || count > rest.len() {
        return Err(damaged());
    }
    let mut element = || {
        let kind = take(rest, 1)?[0];
        match pop(py, kind, rest, buffers, depth + 1)? {
            Some(container) => Ok(container),
            None => pop_plain(py, kind, rest, buffers),
        }
    };
    if kind == DICT {
        let dict = PyDict::new(py);
        for _ in 0..count {
            let key = element()?;
            dict.set_item(key, element()?)?;
        }
        return Ok(Some(dict.into_any()));
    }
    let elements: PyResult<Vec<_>> = (0..count).map(|_| element()).collect();
    Ok(Some(if kind == TUPLE {
        PyTuple::new(py, elements?)?.into_any()
    } else {
        PyList::new(py, elements?)?.into_any()
    }))
}
