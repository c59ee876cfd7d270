//! The zygote's own loop.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getppid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, set_parent_process_death_signal, wait,
};

use super::protocol::{Event, Request, StandardStreams, above_standard};
use crate::cell::Ending;

/// How long a zygote waits for the next request before it prepares for later ones: whoever wants a
/// worker usually wants several, and the processors are busy with the first of them.
const LULL: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Which process a fork returned in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// In the zygote; the child has this number.
    Parent(i32),
    /// In the child.
    Child,
}

/// What a worker was started with.
#[derive(Debug)]
pub struct Start {
    /// The descriptors that the pool sent, without standard streams.
    pub descriptors: Vec<OwnedFd>,
}

/// How serving ended.
#[derive(Debug)]
pub enum Served {
    /// This is a new worker; nothing of the zygote's is open in it.
    Worker(Start),
    /// The parent has ended, or is through with the zygote, and all workers are gone.
    Finished,
}

struct Child {
    pool: u64,
    worker: u64,
    descriptor: OwnedFd,
}

struct Serving {
    master: OwnedFd,
    parent: OwnedFd,
    signals: OwnedFd,
    /// What SIGCHLD did before, and does in workers.
    on_child: libc::sigaction,
    pools: HashMap<u64, OwnedFd>,
    pools_made: u64,
    children: HashMap<i32, Child>,
}

/// Serves pools until the parent ends, and returns in every worker that it forks.
///
/// `fork` forks this process, with whatever its runtime needs to be told. `prepare` is called while
/// nobody wants anything, for what workers that are forked later shall have, and says whether there
/// is more to prepare: each call should take little time, for requests wait meanwhile.
///
/// # Errors
/// The system refuses what a zygote cannot do without.
pub fn serve(
    master: OwnedFd,
    fork: &mut dyn FnMut() -> io::Result<Forked>,
    prepare: &mut dyn FnMut() -> bool,
) -> io::Result<Served> {
    let parent = match Request::receive(master.as_fd())? {
        Some((Request::Belong, mut descriptors)) => descriptors.pop(),
        _ => None,
    };
    let parent = above_standard(parent.ok_or_else(|| io::Error::other("a zygote is nobody's"))?)?;
    // Those who lose their parent become the zygote's children, so that it can bury them.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let on_child = report_children()?;
    let signals = child_signals()?;
    let mut serving = Serving {
        master,
        parent,
        signals,
        on_child,
        pools: HashMap::new(),
        pools_made: 0,
        children: HashMap::new(),
    };
    let mut limit = Some(LULL);
    loop {
        let order: Vec<u64> = serving.pools.keys().copied().collect();
        let ready: Vec<PollFlags> = {
            let mut waiting = vec![
                PollFd::new(&serving.parent, PollFlags::IN),
                PollFd::new(&serving.signals, PollFlags::IN),
                PollFd::new(&serving.master, PollFlags::IN),
            ];
            waiting.extend(order.iter().map(|it| PollFd::new(&serving.pools[it], PollFlags::IN)));
            match poll(&mut waiting, limit.as_ref()) {
                Ok(0) => {
                    limit = prepare().then_some(NO_TIME);
                    continue;
                }
                Ok(_) => waiting.iter().map(PollFd::revents).collect(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        limit = limit.map(|_| LULL);
        if !ready[0].is_empty() {
            serving.kill(|_| true);
            return Ok(Served::Finished);
        }
        if !ready[1].is_empty() {
            serving.bury();
        }
        if !ready[2].is_empty() && !serving.connect() {
            serving.kill(|_| true);
            return Ok(Served::Finished);
        }
        for (pool, ready) in order.into_iter().zip(&ready[3..]) {
            if ready.is_empty() {
                continue;
            }
            let request = match serving.pools.get(&pool) {
                Some(socket) => Request::receive(socket.as_fd()),
                None => continue,
            };
            match request {
                Ok(Some((Request::Start { worker, streams }, descriptors))) => {
                    match serving.start(pool, worker, fork)? {
                        Forked::Parent(_) => {}
                        Forked::Child => {
                            return become_worker(serving, streams, descriptors);
                        }
                    }
                }
                _ => {
                    // The pool has left: nobody is there who would use its workers.
                    serving.kill(|child| child.pool == pool);
                    serving.pools.remove(&pool);
                }
            }
        }
    }
}

impl Serving {
    /// Takes in a pool; `false` if the parent is through with the zygote.
    fn connect(&mut self) -> bool {
        match Request::receive(self.master.as_fd()) {
            Ok(Some((Request::Connect, mut descriptors))) => {
                if let Some(socket) = descriptors.pop() {
                    self.pools_made += 1;
                    self.pools.insert(self.pools_made, socket);
                }
                true
            }
            Ok(Some((Request::Start { .. } | Request::Belong, _))) => true,
            Ok(Some((Request::Leave, _)) | None) | Err(_) => false,
        }
    }

    fn start(
        &mut self,
        pool: u64,
        worker: u64,
        fork: &mut dyn FnMut() -> io::Result<Forked>,
    ) -> io::Result<Forked> {
        let zygote = rustix::process::getpid();
        let refused = |error: &io::Error| Event::Refused {
            worker,
            error: error.raw_os_error().unwrap_or(libc::EAGAIN),
        };
        let pid = match fork() {
            Ok(Forked::Child) => {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if getppid() != Some(zygote) {
                    // It died before the kernel was asked to tell.
                    std::process::exit(0);
                }
                return Ok(Forked::Child);
            }
            Ok(Forked::Parent(pid)) => pid,
            Err(error) => {
                self.tell(pool, &refused(&error), None);
                return Ok(Forked::Parent(0));
            }
        };
        let started = Pid::from_raw(pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match started {
            Ok(descriptor) => {
                let event = Event::Started { worker, pid: pid as u32 };
                self.tell(pool, &event, Some(descriptor.as_fd()));
                self.children.insert(pid, Child { pool, worker, descriptor });
            }
            Err(error) => {
                // Nobody could end it later, so it ends now. It is a child and not yet reaped.
                let _ = rustix::process::kill_process(
                    Pid::from_raw(pid).unwrap_or(zygote),
                    Signal::KILL,
                );
                self.tell(pool, &refused(&error.into()), None);
            }
        }
        Ok(Forked::Parent(pid))
    }

    fn tell(&self, pool: u64, event: &Event, descriptor: Option<BorrowedFd<'_>>) {
        if let Some(socket) = self.pools.get(&pool) {
            // A pool that has left is noticed by the loop.
            let _ = event.send(socket.as_fd(), descriptor);
        }
    }

    /// Reaps every child that has ended, also those that workers left behind.
    fn bury(&mut self) {
        let mut information = [0; 128];
        // Only empties the descriptor; what happened is asked of the kernel.
        let _ = rustix::io::read(&self.signals, &mut information);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let ending = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ending::Exited(code),
                (None, Some(signal)) => Ending::Killed(signal),
                (None, None) => continue,
            };
            if let Some(child) = self.children.remove(&pid.as_raw_nonzero().get()) {
                self.tell(child.pool, &Event::Ended { worker: child.worker, ending }, None);
            }
        }
    }

    fn kill(&mut self, is_meant: impl Fn(&Child) -> bool) {
        for child in self.children.values().filter(|child| is_meant(child)) {
            let _ = pidfd_send_signal(&child.descriptor, Signal::KILL);
        }
    }
}

/// In a worker: closes what is the zygote's and takes the parent's standard streams.
fn become_worker(
    serving: Serving,
    streams: StandardStreams,
    mut descriptors: Vec<OwnedFd>,
) -> io::Result<Served> {
    // SAFETY: the action is what the system said it was.
    if unsafe { libc::sigaction(libc::SIGCHLD, &serving.on_child, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The streams of the zygote and of its other workers, and their pidfds, are closed here.
    drop(serving);
    set_child_subreaper(None)?;
    unblock_signals()?;
    let count = streams.0.iter().filter(|is_there| **is_there).count();
    // The fork of a program without standard streams may have received others in their place.
    descriptors = descriptors.into_iter().map(above_standard).collect::<io::Result<_>>()?;
    let standard = descriptors.split_off(descriptors.len().saturating_sub(count));
    let mut standard = standard.into_iter();
    for (number, is_there) in streams.0.into_iter().enumerate() {
        let number = number as i32;
        if let Some(descriptor) = is_there.then(|| standard.next()).flatten() {
            // SAFETY: 0, 1 and 2 belong to the process; nobody in it owns them.
            let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            rustix::io::dup2(&descriptor, &mut place)?;
        } else {
            // SAFETY: as above; the parent has none either.
            unsafe { libc::close(number) };
        }
    }
    Ok(Served::Worker(Start { descriptors }))
}

fn empty_signal_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset fills in the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it is filled in.
    unsafe { set.assume_init() }
}

/// Makes the system keep children that have ended until they are reaped: a program that ignores
/// SIGCHLD hands that down. Returns what was to happen before.
fn report_children() -> io::Result<libc::sigaction> {
    let action = libc::sigaction {
        sa_sigaction: libc::SIG_DFL,
        sa_mask: empty_signal_set(),
        sa_flags: 0,
        sa_restorer: None,
    };
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: the action is complete, and there is room for the one before.
    if unsafe { libc::sigaction(libc::SIGCHLD, &action, before.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has written it.
    Ok(unsafe { before.assume_init() })
}

/// Makes the ends of children readable from a descriptor.
fn child_signals() -> io::Result<OwnedFd> {
    let mut set = empty_signal_set();
    // SAFETY: the set is initialised and the signal exists.
    unsafe { libc::sigaddset(&mut set, libc::SIGCHLD) };
    set_signal_mask(libc::SIG_BLOCK, &set)?;
    // SAFETY: a new descriptor is made for an initialised set.
    let descriptor = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made just now and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// No signal stays blocked in a worker, whatever the thread that started the zygote had blocked.
fn unblock_signals() -> io::Result<()> {
    set_signal_mask(libc::SIG_SETMASK, &empty_signal_set())
}

/// Keeps the signals of the program away from a thread of ungil's: Python's handlers belong into
/// the threads that wait for them.
pub(crate) fn block_signals() -> io::Result<()> {
    let mut set = empty_signal_set();
    // SAFETY: the set is initialised.
    unsafe { libc::sigfillset(&mut set) };
    for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT] {
        // SAFETY: the set is initialised and the signal exists.
        unsafe { libc::sigdelset(&mut set, fault) };
    }
    set_signal_mask(libc::SIG_SETMASK, &set)
}

fn set_signal_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised; the old one is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
