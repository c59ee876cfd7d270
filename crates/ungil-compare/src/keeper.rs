//! The host's parent, which ends every process that the host leaves behind.
//!
//! A function under test may start processes, detach them, kill its own host or be killed in
//! the middle. So each host has a keeper: a small process that does nothing but wait, and is the
//! *child subreaper* of everything below it, so that a process whose parent has died becomes
//! the keeper's child and can be found.
//!
//! | who dies | what happens |
//! | --- | --- |
//! | the host | the keeper's pidfd wakes; it kills all descendants, then ends as the host ended |
//! | the experiment | the channel hangs up (or its pidfd wakes): the host gets 0.3 s to end by itself, then the keeper kills all descendants |
//! | the keeper | the experiment's pidfd of it wakes, and the experiment ends the session |
//! | keeper and experiment | the host has `PR_SET_PDEATHSIG`, and so has what its main thread forked |
//! | a task's process | its parent's business; an orphan becomes the keeper's child |
//!
//! The keeper opens a session of its own, so that neither Ctrl-C nor a closed terminal reaches
//! what it keeps: the experiment decides about them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use ungil_observe::Tree;

use crate::ending::end_processes;

/// How often orphans that have ended are reaped while nothing else happens.
const REAP_EVERY: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// How long a host may take to end by itself once the experiment has hung up.
const CLEANING_LIMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

/// Prepares this process to be a keeper; called before the host is forked.
///
/// # Errors
/// Whatever the kernel says.
pub fn prepare() -> rustix::io::Result<()> {
    // Already the leader of a session when started from a shell that made it one.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Makes this process die with its parent; called by the host, whose parent is the keeper.
///
/// # Errors
/// Whatever the kernel says.
pub fn die_with_parent(parent: i32) -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(parent) {
        // The parent died before the signal was asked for.
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)?;
    }
    Ok(())
}

/// Waits for the host or the experiment to end, kills whatever is left, and ends as the host did.
///
/// `channel` is the socket to the experiment, never read here.
pub fn keep(host: i32, experiment: i32, channel: BorrowedFd<'_>) -> ! {
    let host_end = open_pidfd(host);
    let experiment_end = open_pidfd(experiment);
    let mut status = None;
    while !has_ended(channel, host_end.as_ref(), experiment_end.as_ref()) {
        reap(host, &mut status);
    }
    if let Some(host_end) = &host_end {
        await_end(host_end);
    }
    end_descendants(host, &mut status);
    end_as(status)
}

/// Lets a host that has nothing to do clean up after itself; one that hangs is not waited for long.
fn await_end(host: &OwnedFd) {
    let mut watched = [PollFd::from_borrowed_fd(host.as_fd(), PollFlags::IN)];
    let _ = poll(&mut watched, Some(&CLEANING_LIMIT));
}

fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Waits a while; `true` once there is nothing left to keep alive.
///
/// A process without a pidfd has already ended.
fn has_ended(
    channel: BorrowedFd<'_>,
    host: Option<&OwnedFd>,
    experiment: Option<&OwnedFd>,
) -> bool {
    let (Some(host), Some(experiment)) = (host, experiment) else { return true };
    let mut watched = [
        PollFd::from_borrowed_fd(channel, PollFlags::RDHUP),
        PollFd::from_borrowed_fd(host.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(experiment.as_fd(), PollFlags::IN),
    ];
    match poll(&mut watched, Some(&REAP_EVERY)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => false,
        Ok(_) | Err(_) => true,
    }
}

/// Reaps every child that has ended, and keeps the host's status.
fn reap(host: i32, status: &mut Option<WaitStatus>) {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, ended))) if pid.as_raw_pid() == host => *status = Some(ended),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Kills until no child is left; each killed parent makes its children the keeper's own.
fn end_descendants(host: i32, status: &mut Option<WaitStatus>) {
    let own = rustix::process::getpid().as_raw_pid();
    // The host's own status counts, so it is reaped before anything is killed.
    end_processes(|| Tree::below(own), || reap(host, status));
}

/// Ends this process with the host's exit code, or by the host's signal.
fn end_as(status: Option<WaitStatus>) -> ! {
    if let Some(signal) = status.and_then(|status| status.terminating_signal()) {
        // SAFETY: resets one signal's disposition, so that it ends this process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: sends a signal to this process itself.
        unsafe { libc::raise(signal) };
    }
    let code = status.and_then(|status| status.exit_status()).unwrap_or(0);
    // SAFETY: ends this process at once, without the interpreter's clean-up, which belongs to
    // the host that was forked from it.
    unsafe { libc::_exit(code) }
}
