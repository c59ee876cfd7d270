//! Pickles that only name a global of a module, as those of most functions do.
//!
//! They are looked up here, in a tenth of the time, and without `_pickle`, which a fresh worker would
//! have to import for its first task.

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
