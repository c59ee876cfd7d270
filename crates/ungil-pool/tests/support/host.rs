//! A zygote that is a fork of the test.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use ungil_pool::Connect;
use ungil_pool::zygote::{Connection, Forked, Served, Zygote, serve};

use super::isolated::exit;
use super::script;

/// The zygote of a test, and how pools get to it. Dropping it ends the zygote.
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    running: Mutex<Option<(Zygote, Pid)>>,
    connects: AtomicU32,
    /// So many connections are refused from now on.
    refusals: AtomicU32,
    /// A zygote forks only after a byte from this descriptor, and with this error if it is a 'x'.
    gate: Mutex<Option<OwnedFd>>,
}

impl Host {
    pub fn new() -> Host {
        Host {
            shared: Arc::new(Shared {
                running: Mutex::new(None),
                connects: AtomicU32::new(0),
                refusals: AtomicU32::new(0),
                gate: Mutex::new(None),
            }),
        }
    }

    /// What a pool calls.
    pub fn connect(&self) -> Connect {
        let shared = self.shared.clone();
        Box::new(move || shared.connect())
    }

    /// How often a pool has called it.
    pub fn connects(&self) -> u32 {
        self.shared.connects.load(Ordering::SeqCst)
    }

    pub fn refuse(&self, times: u32) {
        self.shared.refusals.store(times, Ordering::SeqCst);
    }

    /// Zygotes that are started from now on read a byte before each fork.
    pub fn gate_forks(&self, gate: OwnedFd) {
        *self.shared.gate.lock().expect("no test panics here") = Some(gate);
    }

    pub fn zygote_pid(&self) -> u32 {
        let running = self.shared.running.lock().expect("no test panics here");
        running.as_ref().expect("a pool has connected").1.as_raw_nonzero().get() as u32
    }

    /// Kills the zygote, and waits until it has ended.
    pub fn kill_zygote(&self) {
        let mut running = self.shared.running.lock().expect("no test panics here");
        let (_zygote, pid) = running.take().expect("a pool has connected");
        kill_process(pid, Signal::KILL).expect("it is our child");
        reap(pid);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((zygote, pid)) = running.take() {
            drop(zygote);
            reap(pid);
        }
    }
}

fn reap(pid: Pid) {
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).map(drop)
    });
}

impl Shared {
    fn connect(&self) -> io::Result<Connection> {
        self.connects.fetch_add(1, Ordering::SeqCst);
        let refusals = self.refusals.load(Ordering::SeqCst);
        if refusals > 0 {
            self.refusals.store(refusals - 1, Ordering::SeqCst);
            return Err(io::Error::other("no zygote today"));
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = Some(self.fork_zygote()?);
        }
        match &*running {
            Some((zygote, _)) => zygote.connect(),
            None => unreachable!("it was made just now"),
        }
    }

    fn fork_zygote(&self) -> io::Result<(Zygote, Pid)> {
        let (zygote, master) = Zygote::new()?;
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the child uses nothing that another thread of this process may have locked.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                be_zygote(master, gate.as_ref())
            }));
            exit(ended.unwrap_or(101));
        }
        Ok((zygote, Pid::from_raw(pid).ok_or_else(io::Error::last_os_error)?))
    }
}

/// Closes everything that a fork of the test has and a fresh zygote would not.
fn close_others(kept: &[i32]) {
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .expect("the kernel shows it")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && !kept.contains(number)) {
        // SAFETY: this process ends without dropping whatever believes to own the descriptor.
        unsafe { libc::close(number) };
    }
}

fn be_zygote(master: OwnedFd, gate: Option<&OwnedFd>) -> i32 {
    let kept: Vec<i32> =
        [Some(&master), gate].into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
    close_others(&kept);
    let mut fork = || {
        if let Some(gate) = gate {
            let mut byte = [0];
            if rustix::io::read(gate, &mut byte)? == 1 && byte[0] == b'x' {
                return Err(io::Error::from_raw_os_error(libc::EAGAIN));
            }
        }
        // SAFETY: a zygote has one thread.
        match unsafe { libc::fork() } {
            0 => Ok(Forked::Child),
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(Forked::Parent(pid)),
        }
    };
    match serve(master, &mut fork, &mut || false) {
        Ok(Served::Worker(start)) => script::run(start),
        Ok(Served::Finished) => 0,
        Err(error) => panic!("{error}"),
    }
}
