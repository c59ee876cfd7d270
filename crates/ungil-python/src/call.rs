//! The door from Rust into Python code, for threads that the program may have left to themselves.
//!
//! Before Python 3.14 a daemon thread that wants the GIL back while the interpreter ends is ended in
//! the middle of whatever it does: the stack is unwound, without the GIL, through the frames of
//! whoever had called Python. Rust's destructors would run there, and the program would abort. So the
//! innermost frame keeps the thread where it is, for the moment that the process still lives, as
//! Python 3.14 does itself.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// Stays for ever if it is dropped by unwinding that is no panic.
struct Stay;

impl Drop for Stay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        loop {
            std::thread::park();
        }
    }
}

/// Calls a callable, which may run Python code.
pub fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(ptr::null_mut(), |kwargs| kwargs.as_ptr());
    let result = enter(callable.as_ptr(), args.as_ptr(), kwargs);
    // SAFETY: a call returns an owned object, or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls a callable with one argument, which may run Python code.
#[inline]
pub fn call_one<'py>(
    callable: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let result = enter_one(callable.as_ptr(), argument.as_ptr());
    // SAFETY: a call returns an owned object, or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls a method, which may run Python code.
pub fn call_method<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Bound<'py, PyAny>> {
    let method = object.getattr(PyString::intern(object.py(), name))?;
    call(&method, &args.into_pyobject(object.py()).map_err(Into::into)?, None)
}

unsafe extern "C-unwind" {
    // As in pyo3, but for its declaration, by which it never unwinds.
    fn PyObject_Call(
        callable: *mut ffi::PyObject,
        args: *mut ffi::PyObject,
        kwargs: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;

    fn PyObject_Vectorcall(
        callable: *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        count: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;

    fn PyImport_Import(name: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Imports a module, which may run Python code even if it was imported before.
pub fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    import_named(&PyString::intern(py, name))
}

/// The same for a name that came from elsewhere.
pub fn import_any<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    import_named(&PyString::new(py, name))
}

fn import_named<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let module = enter_import(name.as_ptr());
    // SAFETY: an import returns an owned object, or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(name.py(), module) }
}

/// As [`enter`].
#[inline(never)]
fn enter_import(name: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let stay = Stay;
    // SAFETY: the name is borrowed by the caller, which is attached to the interpreter.
    let module = unsafe { PyImport_Import(name) };
    std::mem::forget(stay);
    module
}

/// As [`enter`].
#[inline(never)]
fn enter_one(callable: *mut ffi::PyObject, argument: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let stay = Stay;
    // The place before the argument is for the callee to use.
    let mut arguments = [ptr::null_mut(), argument];
    let count = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    let first = arguments.as_mut_ptr().wrapping_add(1);
    // SAFETY: the objects are borrowed by the caller, which is attached to the interpreter; there
    // is one argument, and a place before it.
    let result = unsafe { PyObject_Vectorcall(callable, first, count, ptr::null_mut()) };
    std::mem::forget(stay);
    result
}

/// A frame of its own, with nothing to be dropped but [`Stay`].
#[inline(never)]
fn enter(
    callable: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let stay = Stay;
    // SAFETY: the objects are borrowed by the caller, which is attached to the interpreter.
    let result = unsafe { PyObject_Call(callable, args, kwargs) };
    std::mem::forget(stay);
    result
}
