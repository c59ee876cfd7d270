//! Values as bytes and buffers.
//!
//! `None`, `bool`, `int` up to 64 bits, `float`, `str` and `bytes`, and small containers of them
//! (`containers.rs`), have a code of their own, which costs tens of nanoseconds and loads no module.
//! Everything else is pickled, with protocol 5 and large buffers out of band: they are copied once,
//! into shared memory, and used there. What lies in memory that the receiver shares anyway is not
//! copied but referred to.
//!
//! ```text
//! head:  CALL   count (one byte), then so many values       positional arguments of plain types
//!        VALUE  one value                                   a result of a plain type
//!        PICKLE a pickle; further parts are its buffers
//!        DEFINED marshal of (definitions, pickle); likewise
//! value: one byte for the type, then its content; LONG: the number of the part with the content
//! ```

use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use ungil_pool::{Inline, Lent, LentPart, Part, Reference, SharedBlock};

use crate::arrays::Finder;
use crate::call::{call, call_method};
use crate::containers::{self, Met};
use crate::plain::PlainPickler;

const CALL: u8 = b'C';
const VALUE: u8 = b'V';
const PICKLE: u8 = b'P';
const DEFINED: u8 = b'D';

const NONE: u8 = b'n';
const TRUE: u8 = b't';
const FALSE: u8 = b'f';
const INT: u8 = b'i';
const FLOAT: u8 = b'd';
const STR: u8 = b's';
const BYTES: u8 = b'b';
const LONG_STR: u8 = b'S';
const LONG_BYTES: u8 = b'B';

/// Content longer than this, in bytes, becomes a part of its own, so that it is copied once.
const LONG: usize = 1024;
/// A buffer shorter than this, in bytes, stays in the pickle.
const OUT_OF_BAND: usize = 4096;

/// An encoded value, with what keeps its buffers in place.
pub struct Encoded {
    head: Vec<u8>,
    held: Vec<Held>,
}

enum Held {
    Bytes(Py<PyBytes>),
    Str(Py<PyString>),
    Buffer(PyUntypedBuffer),
    Shared(Reference),
}

/// The parts of an encoded value: memory that stays in place while the value lives.
pub struct Parts<'a>(Vec<Part<'a>>);

impl Encoded {
    fn new() -> Encoded {
        Encoded { head: Vec::with_capacity(72), held: Vec::new() }
    }

    /// All of it, if it has one part only.
    pub fn whole(&self) -> Option<&[u8]> {
        self.held.is_empty().then_some(&self.head)
    }

    /// The head's length, in bytes, and that of what is not in it.
    pub fn length(&self) -> usize {
        self.head.len() + self.held.len() * LONG
    }

    /// Appends the beginning of something that has elements; `false` if they are too many.
    pub fn push_counted(&mut self, kind: u8, count: usize) -> bool {
        let is_countable = u32::try_from(count).is_ok();
        push_number(&mut self.head, kind, count);
        is_countable
    }

    /// Its parts, the head first.
    pub fn parts(&self, py: Python<'_>) -> PyResult<Parts<'_>> {
        let mut parts = vec![Part::Bytes(&self.head)];
        for held in &self.held {
            parts.push(match held {
                Held::Bytes(bytes) => Part::Bytes(bytes.as_bytes(py)),
                Held::Str(text) => Part::Bytes(text.to_str(py)?.as_bytes()),
                Held::Buffer(buffer) => {
                    // SAFETY: the export holds the memory in place; who writes to it meanwhile
                    // gets what the stdlib's feeder thread would give: some of the change.
                    Part::Bytes(unsafe {
                        std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes())
                    })
                }
                Held::Shared(reference) => Part::Reference(reference),
            });
        }
        Ok(Parts(parts))
    }
}

impl<'a> Parts<'a> {
    /// The parts.
    pub fn slices(&self) -> &[Part<'a>] {
        &self.0
    }

    /// How many bytes of them are copied.
    pub fn length(&self) -> usize {
        self.0.iter().map(Part::copied_bytes).sum()
    }
}

/// What a value is encoded with where it is not of a plain type.
pub trait Pickler {
    /// The pickle, and the definitions of `__main__` that it needs, as marshal can write them.
    fn dumps<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        plain: &mut PlainPickler,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyTuple>>)>;

    /// Finds the memory that the receiver shares.
    fn finder(&self) -> Finder;
}

/// Encodes what a function is called with.
pub fn encode_call(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    pickler: &dyn Pickler,
) -> PyResult<Encoded> {
    let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
    if kwargs.is_none()
        && let Ok(count) = u8::try_from(args.len())
    {
        let mut encoded = Encoded::new();
        encoded.head.extend([CALL, count]);
        let mut met = Met::new();
        if args.iter_borrowed().all(|value| push(&mut encoded, &mut met, &value)) {
            return Ok(encoded);
        }
    }
    let call = match kwargs {
        Some(kwargs) => (args, kwargs).into_pyobject(args.py())?,
        None => (args,).into_pyobject(args.py())?,
    };
    pickle(call.as_any(), pickler)
}

/// Encodes a result.
pub fn encode_value(value: &Bound<'_, PyAny>, pickler: &dyn Pickler) -> PyResult<Encoded> {
    let mut encoded = Encoded::new();
    encoded.head.push(VALUE);
    if push(&mut encoded, &mut Met::new(), value) { Ok(encoded) } else { pickle(value, pickler) }
}

/// Appends a value of a plain type, or a small container; `false`, with the head in any state, if it
/// is something else.
fn push(encoded: &mut Encoded, met: &mut Met, value: &Bound<'_, PyAny>) -> bool {
    push_plain(encoded, value) || met.push(encoded, value, 0)
}

fn pickle(value: &Bound<'_, PyAny>, pickler: &dyn Pickler) -> PyResult<Encoded> {
    let py = value.py();
    let mut plain = PlainPickler::take(py, pickler.finder())?;
    let (bytes, definitions) = pickler.dumps(value, &mut plain)?;
    let mut encoded = Encoded::new();
    match definitions.filter(|definitions| !definitions.is_empty()) {
        None => {
            encoded.head.push(PICKLE);
            encoded.head.extend_from_slice(bytes.as_bytes());
        }
        Some(definitions) => {
            encoded.head.push(DEFINED);
            let written = call_method(marshal(py)?, "dumps", ((definitions, bytes),))?;
            encoded.head.extend_from_slice(written.cast::<PyBytes>()?.as_bytes());
        }
    }
    encoded.held = plain.collector.get().take();
    plain.give_back();
    Ok(encoded)
}

/// Appends a value of a plain type; `false`, with the head in any state, if it is of another.
pub fn push_plain(encoded: &mut Encoded, value: &Bound<'_, PyAny>) -> bool {
    if push_short_plain(&mut encoded.head, value) {
        return true;
    }
    let head = &mut encoded.head;
    if let Ok(value) = value.cast_exact::<PyString>() {
        if value.to_str().is_err() {
            return false;
        }
        push_number(head, LONG_STR, encoded.held.len());
        encoded.held.push(Held::Str(value.clone().unbind()));
    } else if let Ok(value) = value.cast_exact::<PyBytes>() {
        push_number(head, LONG_BYTES, encoded.held.len());
        encoded.held.push(Held::Bytes(value.clone().unbind()));
    } else {
        return false;
    }
    true
}

/// Appends a value of a plain type that is not long; `false`, and nothing appended, if it is none.
pub fn push_short_plain(head: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> bool {
    if value.is_none() {
        head.push(NONE);
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        head.push(if value.is_true() { TRUE } else { FALSE });
    } else if value.is_exact_instance_of::<PyInt>() {
        let Some(value) = small_int(value) else { return false };
        let mut bytes = [INT; 9];
        bytes[1..].copy_from_slice(&value.to_ne_bytes());
        head.extend_from_slice(&bytes);
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        head.push(FLOAT);
        head.extend_from_slice(&value.value().to_ne_bytes());
    } else if let Ok(value) = value.cast_exact::<PyString>() {
        // Lone surrogates have no UTF-8; pickle knows what to do with them.
        match value.to_str() {
            Ok(text) if text.len() <= LONG => push_short(head, STR, text.as_bytes()),
            _ => return false,
        }
    } else if let Ok(value) = value.cast_exact::<PyBytes>() {
        if value.as_bytes().len() > LONG {
            return false;
        }
        push_short(head, BYTES, value.as_bytes());
    } else {
        return false;
    }
    true
}

fn small_int(value: &Bound<'_, PyAny>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: the value is an int and the interpreter is attached. No error is set for an int.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(number)
}

fn push_short(head: &mut Vec<u8>, kind: u8, content: &[u8]) {
    push_number(head, kind, content.len());
    head.extend_from_slice(content);
}

fn push_number(head: &mut Vec<u8>, kind: u8, number: usize) {
    head.push(kind);
    head.extend_from_slice(&(number as u32).to_ne_bytes());
}

/// Keeps the buffers that a pickler takes out of band, and what it writes.
#[pyclass(frozen, module = "ungil._core")]
#[derive(Default)]
pub struct BufferCollector {
    finder: Mutex<Option<Finder>>,
    held: Mutex<Vec<Held>>,
    saw_readonly: AtomicBool,
    saw_shared: AtomicBool,
    written: Mutex<Vec<Py<PyBytes>>>,
}

#[pymethods]
impl BufferCollector {
    /// Takes a `pickle.PickleBuffer`; a true answer leaves it in the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(raw) = buffer.call_method0("raw") else {
            // Not contiguous: pickle says so.
            return Ok(true);
        };
        let view = PyUntypedBuffer::get(&raw)?;
        let length = view.len_bytes();
        let shared = {
            let finder = self.finder.lock().unwrap_or_else(PoisonError::into_inner);
            let finder = finder.as_ref().filter(|_| length > 0);
            finder.and_then(|finder| finder.find(view.buf_ptr().cast(), length))
        };
        if let Some(reference) = shared {
            let reference = if view.readonly() { reference.readonly() } else { reference };
            self.saw_shared.store(true, Ordering::Relaxed);
            self.hold(Held::Shared(reference));
            return Ok(false);
        }
        if view.readonly() {
            self.saw_readonly.store(true, Ordering::Relaxed);
            return Ok(true);
        }
        if length < OUT_OF_BAND {
            return Ok(true);
        }
        self.hold(Held::Buffer(view));
        Ok(false)
    }

    /// Takes a part of the pickle, as a file does.
    fn write(&self, part: &Bound<'_, PyAny>) -> PyResult<()> {
        let part = match part.cast_exact::<PyBytes>() {
            Ok(part) => part.clone(),
            Err(_) => part.py().get_type::<PyBytes>().call1((part,))?.cast_into()?,
        };
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(part.unbind());
        Ok(())
    }

    /// Forgets the buffers.
    pub fn reset(&self) {
        self.saw_readonly.store(false, Ordering::Relaxed);
        self.saw_shared.store(false, Ordering::Relaxed);
        drop(self.take());
    }

    /// Whether a read-only buffer came by: it would be read-only at the other end.
    #[getter]
    pub fn saw_readonly(&self) -> bool {
        self.saw_readonly.load(Ordering::Relaxed)
    }

    /// Whether memory came by that the receiver shares.
    #[getter]
    fn saw_shared(&self) -> bool {
        self.saw_shared.load(Ordering::Relaxed)
    }
}

impl BufferCollector {
    /// Looks for shared memory with this from now on.
    pub fn find_with(&self, finder: Option<Finder>) {
        *self.finder.lock().unwrap_or_else(PoisonError::into_inner) = finder;
    }

    /// Whether everything shall be pickled in band: with buffers, a read-only array stays one, and
    /// the stdlib's workers get a writable copy. But that is no reason to copy also what is shared,
    /// which is the one thing that copies cannot be.
    pub fn needs_copies(&self) -> bool {
        self.saw_readonly() && !self.saw_shared()
    }

    /// What was written, which is forgotten.
    pub fn take_written(&self) -> Vec<Py<PyBytes>> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hold(&self, held: Held) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    fn take(&self) -> Vec<Held> {
        std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Encoded data that has arrived.
pub enum Arrived {
    /// In a slot.
    Inline(Inline),
    /// In the sender's arena.
    Lent(Arc<Lent>),
}

/// Something in encoded data is not what an encoder writes.
pub fn damaged() -> PyErr {
    PyValueError::new_err("data from shared memory is damaged")
}

/// A function's arguments, or a result.
pub enum Decoded<'py> {
    /// Positional arguments, and keywords.
    Call(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>),
    /// A value.
    Value(Bound<'py, PyAny>),
}

/// Who takes in definitions of `__main__`.
pub type Define<'a> = &'a dyn Fn(&Bound<'_, PyAny>) -> PyResult<()>;

impl Arrived {
    /// Decodes it. `define` is given the definitions that came with it.
    pub fn decode<'py>(self, py: Python<'py>, define: Define<'_>) -> PyResult<Decoded<'py>> {
        match self {
            Arrived::Inline(inline) => decode(py, inline.bytes(), &[], None, define),
            Arrived::Lent(lent) => {
                let parts = lent.parts().ok_or_else(damaged)?;
                let head = lent.copy(0).ok_or_else(damaged)?;
                decode(py, &head, parts.get(1..).unwrap_or_default(), Some(&lent), define)
            }
        }
    }
}

pub type Buffers<'a> = &'a [LentPart];

/// Decodes what was encoded in one part.
pub fn decode_head<'py>(
    py: Python<'py>,
    head: &[u8],
    define: Define<'_>,
) -> PyResult<Decoded<'py>> {
    decode(py, head, &[], None, define)
}

/// Takes a value of a plain type from the beginning of encoded ones.
pub fn take_short_plain<'py>(py: Python<'py>, rest: &mut &[u8]) -> PyResult<Bound<'py, PyAny>> {
    plain(py, rest, &[])
}

/// Takes a number or nothing from the beginning of encoded values, in a few nanoseconds; `None`, and
/// nothing taken, if another value is there.
#[inline]
pub fn take_number<'py>(py: Python<'py>, rest: &mut &[u8]) -> Option<Bound<'py, PyAny>> {
    let (kind, behind) = rest.split_first()?;
    let (value, behind) = match *kind {
        NONE => (py.None().into_bound(py), behind),
        INT => {
            let (bytes, behind) = behind.split_first_chunk::<8>()?;
            (i64::from_ne_bytes(*bytes).into_pyobject(py).ok()?.into_any(), behind)
        }
        TRUE | FALSE => (PyBool::new(py, *kind == TRUE).to_owned().into_any(), behind),
        _ => return None,
    };
    *rest = behind;
    Some(value)
}

/// Passes over a value of a plain type.
pub fn skip_short_plain(rest: &mut &[u8]) -> PyResult<()> {
    let length = match *rest.first().ok_or_else(damaged)? {
        NONE | TRUE | FALSE => 1,
        INT | FLOAT => 9,
        STR | BYTES => {
            let length = rest.get(1..5).and_then(|it| it.try_into().ok()).ok_or_else(damaged)?;
            5 + u32::from_ne_bytes(length) as usize
        }
        _ => return Err(damaged()),
    };
    *rest = rest.get(length..).ok_or_else(damaged)?;
    Ok(())
}

/// The arguments in a pickled call.
pub fn unpack_call<'py>(
    call: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let call = call.cast::<PyTuple>()?;
    let args = call.get_item(0)?.cast_into::<PyTuple>()?;
    let kwargs = match call.len() {
        1 => None,
        _ => Some(call.get_item(1)?.cast_into::<PyDict>()?),
    };
    Ok((args, kwargs))
}

fn decode<'py>(
    py: Python<'py>,
    head: &[u8],
    buffers: Buffers<'_>,
    lent: Option<&Arc<Lent>>,
    define: Define<'_>,
) -> PyResult<Decoded<'py>> {
    let (kind, mut rest) = head.split_first().ok_or_else(damaged)?;
    match *kind {
        CALL => {
            let (count, mut rest) = rest.split_first().ok_or_else(damaged)?;
            let values: PyResult<Vec<_>> =
                (0..*count).map(|_| plain(py, &mut rest, buffers)).collect();
            Ok(Decoded::Call(PyTuple::new(py, values?)?, None))
        }
        VALUE => Ok(Decoded::Value(plain(py, &mut rest, buffers)?)),
        PICKLE => loads(py, rest, buffers, lent).map(Decoded::Value),
        DEFINED => {
            let pair = call_method(marshal(py)?, "loads", (PyBytes::new(py, rest),))?;
            let (definitions, bytes): (Bound<'_, PyAny>, Bound<'_, PyBytes>) = pair.extract()?;
            define(&definitions)?;
            loads(py, bytes.as_bytes(), buffers, lent).map(Decoded::Value)
        }
        _ => Err(damaged()),
    }
}

fn plain<'py>(
    py: Python<'py>,
    rest: &mut &[u8],
    buffers: Buffers<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = take(rest, 1)?[0];
    match containers::pop(py, kind, rest, buffers, 0)? {
        Some(container) => Ok(container),
        None => pop_plain(py, kind, rest, buffers),
    }
}

/// The next so many bytes.
pub fn take<'a>(rest: &mut &'a [u8], count: usize) -> PyResult<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count).ok_or_else(damaged)?;
    *rest = left;
    Ok(taken)
}

/// The value of a plain type that begins with this byte.
pub fn pop_plain<'py>(
    py: Python<'py>,
    kind: u8,
    rest: &mut &[u8],
    buffers: Buffers<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    fn number(rest: &mut &[u8]) -> PyResult<usize> {
        let bytes = take(rest, 4)?.try_into().map_err(|_| damaged())?;
        Ok(u32::from_ne_bytes(bytes) as usize)
    }
    fn eight(rest: &mut &[u8]) -> PyResult<[u8; 8]> {
        take(rest, 8)?.try_into().map_err(|_| damaged())
    }
    Ok(match kind {
        NONE => py.None().into_bound(py),
        TRUE => PyBool::new(py, true).to_owned().into_any(),
        FALSE => PyBool::new(py, false).to_owned().into_any(),
        INT => i64::from_ne_bytes(eight(rest)?).into_pyobject(py)?.into_any(),
        FLOAT => PyFloat::new(py, f64::from_ne_bytes(eight(rest)?)).into_any(),
        STR => {
            let length = number(rest)?;
            let text = std::str::from_utf8(take(rest, length)?).map_err(|_| damaged())?;
            PyString::new(py, text).into_any()
        }
        BYTES => {
            let length = number(rest)?;
            PyBytes::new(py, take(rest, length)?).into_any()
        }
        LONG_STR => {
            let part = buffers.get(number(rest)?).ok_or_else(damaged)?;
            let mut copy = vec![0; part.length];
            copy_shared(part.start, &mut copy);
            let text = std::str::from_utf8(&copy).map_err(|_| damaged())?;
            PyString::new(py, text).into_any()
        }
        LONG_BYTES => {
            let part = buffers.get(number(rest)?).ok_or_else(damaged)?;
            let copy = |bytes: &mut [u8]| {
                copy_shared(part.start, bytes);
                Ok(())
            };
            PyBytes::new_with(py, part.length, copy)?.into_any()
        }
        _ => return Err(damaged()),
    })
}

fn copy_shared(start: NonNull<u8>, bytes: &mut [u8]) {
    // SAFETY: so many bytes are mapped there while the lent block lives; a peer that writes to
    // them meanwhile spoils only what it sent.
    unsafe { std::ptr::copy_nonoverlapping(start.as_ptr(), bytes.as_mut_ptr(), bytes.len()) }
}

fn loads<'py>(
    py: Python<'py>,
    bytes: &[u8],
    buffers: Buffers<'_>,
    lent: Option<&Arc<Lent>>,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyBytes::new(py, bytes);
    let Some(lent) = lent.filter(|_| !buffers.is_empty()) else {
        return loads_pickle(py, &bytes);
    };
    let buffers: PyResult<Vec<_>> =
        buffers.iter().map(|part| Bound::new(py, SharedBuffer::of_part(lent, part))).collect();
    let keywords = PyDict::new(py);
    keywords.set_item("buffers", PyList::new(py, buffers?)?)?;
    call(unpickler(py)?, &(bytes,).into_pyobject(py)?, Some(&keywords))
}

/// What a pickle without buffers out of band becomes.
pub fn loads_pickle<'py>(
    py: Python<'py>,
    bytes: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    call(unpickler(py)?, &(bytes,).into_pyobject(py)?, None)
}

/// `pickle.loads`, under the name by which the rest of that module, which imports much, is left out.
fn unpickler(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "_pickle", "loads")
}

pub fn marshal(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static MARSHAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MARSHAL
        .get_or_try_init(py, || Ok::<_, PyErr>(py.import("marshal")?.into_any().unbind()))?;
    Ok(module.bind(py))
}

/// Memory that arrived with a value, and is given back with it, or memory that is shared.
#[pyclass(frozen, module = "ungil._core")]
pub struct SharedBuffer {
    /// What keeps the memory where it is.
    _holder: Arc<dyn Any + Send + Sync>,
    start: NonNull<u8>,
    length: usize,
    is_readonly: bool,
}

impl SharedBuffer {
    /// A whole block of this process's own.
    pub fn of_block(block: Arc<SharedBlock>) -> SharedBuffer {
        let (start, length) = (block.start(), block.length());
        SharedBuffer { _holder: block, start, length, is_readonly: false }
    }

    fn of_part(lent: &Arc<Lent>, part: &LentPart) -> SharedBuffer {
        let holder: Arc<dyn Any + Send + Sync> = match &part.block {
            Some(block) => block.clone(),
            None => lent.clone(),
        };
        let LentPart { start, length, is_readonly, .. } = *part;
        SharedBuffer { _holder: holder, start, length, is_readonly }
    }
}

// SAFETY: the memory is mapped as long as the block is held, wherever the holder is.
unsafe impl Send for SharedBuffer {}
// SAFETY: as above; buffers are shared as Python shares them.
unsafe impl Sync for SharedBuffer {}

#[pymethods]
impl SharedBuffer {
    fn __len__(&self) -> usize {
        self.length
    }

    fn __repr__(&self) -> String {
        format!("<ungil shared buffer of {} bytes>", self.length)
    }

    /// # Safety
    /// The interpreter passes a view to fill in.
    unsafe fn __getbuffer__(
        slf: PyRef<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let length = slf.length as ffi::Py_ssize_t;
        let start = slf.start.as_ptr().cast();
        let is_readonly = slf.is_readonly.into();
        // SAFETY: the memory is mapped as long as the object lives, and the view holds the object.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, is_readonly, flags)
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
