//! Ending processes that nobody needs any more, without leaving what they own behind.
//!
//! Python's `multiprocessing` names its semaphores in `/dev/shm` under the start methods spawn and
//! forkserver, and has a *resource tracker*, a process that removes those names once everybody
//! who may use them is gone. Killed together with the rest, it could not; so it is left to end by
//! itself first, and killed only if it does not.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use ungil_observe::{Tree, process};

/// After this long a process that survives SIGKILL (stuck in the kernel) is given up.
const KILLING_LIMIT: Duration = Duration::from_secs(10);
/// How long a resource tracker may take to remove what it tracks.
const TRACKING_LIMIT: Duration = Duration::from_secs(3);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Kills all `members`, resource trackers last, until there are none.
///
/// `members` is asked again and again, because a process that is being killed may start others.
/// `reap` collects the ended ones where they are this process's children.
pub fn end_processes(members: impl Fn() -> Tree, mut reap: impl FnMut()) {
    let started = Instant::now();
    let mut only_trackers_since = None;
    while started.elapsed() < KILLING_LIMIT {
        reap();
        let pids = members().pids();
        if pids.is_empty() {
            return;
        }
        let (trackers, others): (Vec<i32>, Vec<i32>) =
            pids.into_iter().partition(|pid| is_resource_tracker(*pid));
        others.iter().for_each(|pid| kill(*pid));
        if others.is_empty() {
            let since = *only_trackers_since.get_or_insert_with(Instant::now);
            if since.elapsed() > TRACKING_LIMIT {
                trackers.iter().for_each(|pid| kill(*pid));
            }
        }
        thread::sleep(PAUSE);
    }
}

fn is_resource_tracker(pid: i32) -> bool {
    process::command_line(pid).is_some_and(|line| line.contains("multiprocessing.resource_tracker"))
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile, which is all that is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}
