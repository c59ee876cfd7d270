//! The globals that pickles name.
//!
//! A pickle that names one and nothing else, as those of most functions do, is looked up here, in a
//! tenth of the time, and without `_pickle`, which a fresh worker would have to import for its first
//! task.

use pyo3::prelude::*;

use crate::call::import_any;

const PROTOCOL: &[u8] = b"\x80\x05";
const FRAME: u8 = b'\x95';
const SHORT_TEXT: u8 = b'\x8c';
const MEMOIZE: u8 = b'\x94';
/// Looks the global up, memoizes it and stops.
const FOUND: &[u8] = b"\x93\x94.";

/// The global that a pickle of protocol 5 names; `None` if it is another pickle, or if there is no
/// such global: unpickling says what is wrong.
pub fn find<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    let (module, name) = names(pickle)?;
    let module = import_any(py, module).ok()?;
    name.split('.').try_fold(module, |holder, part| holder.getattr(part).ok())
}

/// Module and dotted name.
fn names(pickle: &[u8]) -> Option<(&str, &str)> {
    let mut rest = pickle.strip_prefix(PROTOCOL)?;
    if *rest.first()? == FRAME {
        rest = rest.get(9..)?;
    }
    let module = short_text(&mut rest)?;
    let name = short_text(&mut rest)?;
    (rest == FOUND).then_some((module, name))
}

fn short_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let [SHORT_TEXT, length, more @ ..] = *rest else { return None };
    let (text, more) = more.split_at_checked(usize::from(*length))?;
    *rest = more.strip_prefix(&[MEMOIZE])?;
    std::str::from_utf8(text).ok()
}

/// Whether a pickle may name `__main__`, or `__mp_main__`, under which `multiprocessing`'s own
/// children know the main module. If not, it need not be looked through.
pub fn may_name_main(pickle: &[u8]) -> bool {
    const TEXT: &[u8] = b"main__";
    let mut rest = pickle;
    // This letter of it is rarer than the others.
    while let Some(at) = rest.iter().position(|byte| *byte == b'_') {
        let end = pickle.len() - rest.len() + at;
        if pickle.get(end.saturating_sub(4)..end + 2) == Some(TEXT) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// The globals of `__main__` that a pickle names, each once.
///
/// Returns:
///     Dotted names; ``None`` if the pickle could mean something else than one that was made with
///     regard to ``__main__``: it names what such a pickle would not contain, or is of an unknown
///     kind.
#[pyfunction]
pub fn main_globals<'py>(
    py: Python<'py>,
    pickle: &[u8],
) -> PyResult<Option<Bound<'py, pyo3::types::PyTuple>>> {
    let Some(names) = names_of_main(pickle) else { return Ok(None) };
    pyo3::types::PyTuple::new(py, names).map(Some)
}

/// The same for Rust.
pub fn names_of_main(pickle: &[u8]) -> Option<Vec<&str>> {
    Reader { rest: pickle, memo: Vec::new() }.main_globals()
}

/// Walks through a pickle, and knows of texts alone what they are.
struct Reader<'a> {
    rest: &'a [u8],
    /// The texts among what was memoized.
    memo: Vec<Option<&'a str>>,
}

impl<'a> Reader<'a> {
    fn main_globals(mut self) -> Option<Vec<&'a str>> {
        let mut names = Vec::new();
        // What was pushed last, and before: pickle pushes module and name just before it looks a
        // global up.
        let mut pushed: [Option<&str>; 2] = [None, None];
        loop {
            let operation = self.bytes(1)?[0];
            let text = match operation {
                b'.' => return self.rest.is_empty().then_some(names),
                // It memoizes what is on the top, and pushes nothing.
                MEMOIZE => {
                    self.memo.push(pushed[1]);
                    continue;
                }
                FRAME => {
                    self.bytes(8)?;
                    continue;
                }
                b'\x93' => {
                    let [Some(module), Some(name)] = pushed else { return None };
                    if module == "__main__" {
                        if !names.contains(&name) {
                            names.push(name);
                        }
                    } else if is_ambiguous(module, name) {
                        return None;
                    }
                    None
                }
                SHORT_TEXT => Some(self.text(1)?),
                b'X' => Some(self.text(4)?),
                b'\x8d' => Some(self.text(8)?),
                b'h' => {
                    let at = self.bytes(1)?[0];
                    *self.memo.get(usize::from(at))?
                }
                b'j' => {
                    let at = self.number(4)?;
                    *self.memo.get(at)?
                }
                _ => {
                    self.skip(operation)?;
                    None
                }
            };
            pushed = [pushed[1], text];
        }
    }

    /// Passes over what follows an operation that has to do with neither texts nor the memo.
    fn skip(&mut self, operation: u8) -> Option<()> {
        let length = match operation {
            b'('
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'R'
            | b'b'
            | b'}'
            | b']'
            | b')'
            | b'a'
            | b'e'
            | b'd'
            | b'l'
            | b's'
            | b't'
            | b'u'
            | b'\x81'
            | b'\x85'..=b'\x89'
            | b'\x8f'..=b'\x92'
            | b'\x97'
            | b'\x98' => 0,
            b'\x80' | b'K' => 1,
            b'M' => 2,
            b'J' => 4,
            b'G' => 8,
            b'C' | b'\x8a' => self.number(1)?,
            b'B' | b'\x8b' => self.number(4)?,
            b'\x8e' | b'\x96' => self.number(8)?,
            _ => return None,
        };
        self.bytes(length).map(drop)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self, length: usize) -> Option<usize> {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(self.bytes(length)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let length = self.number(length)?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }
}

/// Whether pickling with regard to `__main__` writes something else than this global: a bound method
/// as such and not by a name that may be another one there, a sentinel that it finds again, and what
/// another name of the main module holds.
fn is_ambiguous(module: &str, name: &str) -> bool {
    matches!((module, name), ("builtins", "getattr") | ("dataclasses", _))
        || module.ends_with("main__")
}
