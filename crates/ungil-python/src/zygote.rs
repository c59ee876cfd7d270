//! Processes that start workers: how they are started, and what they do.

use std::any::Any;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, set_parent_process_death_signal,
    waitid,
};
use ungil_pool::zygote::{Connection, Forked, Served, Start, Zygote, serve};
use ungil_pool::{Connect, PerProcess, Worker};

use crate::worker::WorkerProcess;

/// A zygote that serves all pools of a process.
struct Running {
    zygote: Zygote,
    child: Child,
}

type Shared = PerProcess<Mutex<Option<Running>>>;

static FRESH: Shared = PerProcess::new();
static SPAWNING: Shared = PerProcess::new();

/// How pools of a start method get a zygote.
pub fn connector(start_method: &str) -> PyResult<Connect> {
    match start_method {
        "forkserver" => Ok(Box::new(|| connect_shared(&FRESH, "fork"))),
        "spawn" => Ok(Box::new(|| connect_shared(&SPAWNING, "spawn"))),
        "fork" => Ok(Box::new(connect_forked)),
        other => Err(PyValueError::new_err(format!(
            "the start method {other:?} is unknown; there are 'fork', 'spawn' and 'forkserver'"
        ))),
    }
}

fn connect_shared(place: &'static Shared, mode: &str) -> io::Result<Connection> {
    let mut place = place.get(|| Mutex::new(None)).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = place.as_mut() {
        if matches!(running.child.try_wait(), Ok(None))
            && let Ok(connection) = running.zygote.connect()
        {
            return Ok(connection);
        }
        *place = None;
    }
    let running = launch(mode)?;
    let connection = running.zygote.connect()?;
    *place = Some(running);
    Ok(connection)
}

/// Starts a fresh interpreter as a zygote. Its master socket takes the place of its standard input:
/// with nothing else to be done between, the system starts the program without a copy of this
/// process, which takes the longer the more memory this one has.
fn launch(mode: &str) -> io::Result<Running> {
    let (zygote, theirs) = Zygote::new()?;
    type Variables = Vec<(OsString, Option<OsString>)>;
    let command: PyResult<(Vec<OsString>, Variables)> = Python::attach(|py| {
        py.import("ungil._likeness")?.call_method1("zygote_command", (mode,))?.extract()
    });
    let (arguments, environment) = command.map_err(to_io)?;
    let (program, arguments) = arguments
        .split_first()
        .ok_or_else(|| io::Error::other("there is no command for a zygote"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::from(theirs)).stdout(Stdio::null());
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let child = command.spawn()?;
    Ok(Running { zygote, child })
}

/// Takes the master socket from the place of the standard input, in a zygote that was executed, and
/// closes what else it has inherited: it would keep open what the program opens for other children of
/// its own, and closes, so that somebody sees the end.
///
/// Returns:
///     The socket's descriptor.
#[pyfunction]
pub fn take_master() -> PyResult<i32> {
    let taken = || -> io::Result<OwnedFd> {
        let nothing = std::fs::File::open("/dev/null")?;
        // SAFETY: 0 belongs to the process; nobody in it owns it.
        let mut input = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(0) });
        let master = rustix::io::fcntl_dupfd_cloexec(&*input, 3)?;
        rustix::io::dup2(&nothing, &mut input)?;
        Ok(master)
    };
    close_inherited();
    Ok(taken().map_err(PyOSError::new_err)?.into_raw_fd())
}

/// Closes what is open and would be handed on to the next program, for so it has come here: what the
/// interpreter opens for itself is not handed on. The standard streams stay.
fn close_inherited() {
    let close_if_inherited = |number: i32| {
        // SAFETY: it is open, or the system says that it is not; only its flags are asked for.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_inherited = rustix::io::fcntl_getfd(descriptor)
            .is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC));
        if is_inherited {
            // SAFETY: it was opened by the program that executed this one; nobody here uses it.
            unsafe { libc::close(number) };
        }
    };
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|number| *number > 2)
            .for_each(close_if_inherited),
        Err(_) => (3..4096).for_each(close_if_inherited),
    }
}

/// Forks this process; the child becomes the zygote of one pool. Its workers are as this process is
/// now.
fn connect_forked() -> io::Result<Connection> {
    let (zygote, theirs) = Zygote::new()?;
    let forked = Python::attach(|py| -> PyResult<i32> {
        // What is to happen in the child is looked up before: it must not import.
        let module = py.import("ungil._zygote")?;
        let serve = module.getattr("serve_forked")?;
        module.call_method0("flush_streams")?;
        match fork(py)? {
            Forked::Parent(pid) => Ok(pid),
            Forked::Child => {
                // It does not return.
                let served = serve.call1((theirs.as_raw_fd(),));
                if let Err(error) = served {
                    error.print(py);
                }
                exit_now(1)
            }
        }
    });
    let pid = forked.map_err(to_io)?;
    let descriptor = Pid::from_raw(pid)
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .transpose()?
        .ok_or_else(|| io::Error::other("a fork has no process number"))?;
    let connection = zygote.connect()?;
    let guard: Box<dyn Any + Send + Sync> =
        Box::new(ForkedZygote { zygote: Some(zygote), descriptor });
    Ok(connection.with_guard(guard))
}

/// The zygote of one pool: it ends with the pool, and is reaped.
struct ForkedZygote {
    zygote: Option<Zygote>,
    descriptor: OwnedFd,
}

impl Drop for ForkedZygote {
    fn drop(&mut self) {
        if let Some(zygote) = self.zygote.take() {
            zygote.end();
        }
        // The program may have reaped it already with a wait for any child.
        let _ = rustix::io::retry_on_intr(|| {
            waitid(WaitId::PidFd(self.descriptor.as_fd()), WaitIdOptions::EXITED)
        });
    }
}

fn to_io(error: PyErr) -> io::Error {
    io::Error::other(error)
}

/// Ends this process without running anything of the program from which it was forked.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: it does not return, and nothing of this process is needed any more.
    unsafe { libc::_exit(code) }
}

/// Forks, as `os.fork` does, but without its warning about threads: a zygote has none, and the one
/// fork of the user's process is what the user asked for.
fn fork(py: Python<'_>) -> PyResult<Forked> {
    let _ = py;
    // SAFETY: the interpreter is attached, as this requires.
    unsafe { ffi::PyOS_BeforeFork() };
    // SAFETY: the interpreter is prepared; the child calls what it must before anything else.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the child of a fork that was prepared.
        unsafe { ffi::PyOS_AfterFork_Child() };
        return Ok(Forked::Child);
    }
    let error = io::Error::last_os_error();
    // SAFETY: this is the parent of a fork that was prepared.
    unsafe { ffi::PyOS_AfterFork_Parent() };
    if pid < 0 { Err(PyOSError::new_err(error)) } else { Ok(Forked::Parent(pid)) }
}

/// Serves pools as a zygote.
///
/// Args:
///     master: The descriptor of the master socket; it is taken over.
///     prepare: Called again and again while nobody wants a worker, until it answers ``False``: it
///         prepares something for workers that are forked later. It raises nothing.
///
/// Returns:
///     In each worker its start; in the zygote ``None``, when the parent has ended.
#[pyfunction]
pub fn serve_zygote(
    py: Python<'_>,
    master: i32,
    prepare: &Bound<'_, PyAny>,
) -> PyResult<Option<WorkerStart>> {
    // SAFETY: the caller gives the descriptor away.
    let master = unsafe { OwnedFd::from_raw_fd(master) };
    let mut forking = || fork(py).map_err(to_io);
    let mut preparing = || prepare.call0().is_ok_and(|more| more.is_truthy().unwrap_or(false));
    match serve(master, &mut forking, &mut preparing).map_err(PyOSError::new_err)? {
        Served::Finished => Ok(None),
        Served::Worker(start) => Ok(Some(WorkerStart { start: Mutex::new(Some(start)) })),
    }
}

/// What a worker was started with.
#[pyclass(frozen, module = "ungil._core")]
pub struct WorkerStart {
    start: Mutex<Option<Start>>,
}

#[pymethods]
impl WorkerStart {
    /// The start that these descriptors describe, in a worker that was executed.
    #[new]
    fn new(descriptors: Vec<i32>) -> WorkerStart {
        let own = |number: i32| {
            // SAFETY: the process was executed with these descriptors for this purpose.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            // One that is not open is noticed when it is used.
            let _ = rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC);
            descriptor
        };
        let descriptors = descriptors.into_iter().map(own).collect();
        WorkerStart { start: Mutex::new(Some(Start { descriptors })) }
    }

    /// Gives the descriptors away, to a program that will be executed.
    fn take_descriptors(&self) -> PyResult<Vec<i32>> {
        let start = self.take()?;
        for descriptor in &start.descriptors {
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())
                .map_err(crate::error::os_error)?;
        }
        Ok(start.descriptors.into_iter().map(IntoRawFd::into_raw_fd).collect())
    }

    /// Makes the kernel end this worker with the zygote, once more: it forgets that when a process
    /// changes its user.
    #[staticmethod]
    fn end_with_zygote() -> PyResult<()> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(crate::error::os_error)
    }

    /// The worker.
    fn open(&self) -> PyResult<WorkerProcess> {
        Ok(WorkerProcess::new(Worker::open(self.take()?).map_err(PyOSError::new_err)?))
    }
}

impl WorkerStart {
    fn take(&self) -> PyResult<Start> {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        start.ok_or_else(|| PyValueError::new_err("this start was used"))
    }
}
