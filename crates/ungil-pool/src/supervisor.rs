//! The pool's own thread: it sees workers come and go, and keeps tasks flowing while no caller waits.
//!
//! It sleeps in `poll` and never takes Python's lock. Workers wake it by the event descriptor, and
//! only for what the pool has asked them to: an idle pool, or one whose caller pumps, leaves it asleep.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cell::Ending;
use crate::pool::Inner;
use crate::pump::Phase;
use crate::zygote::{Event, block_signals};

/// How long the zygote may take to tell how a worker ended, after the kernel has told that it did.
const REPORT_LIMIT: Duration = Duration::from_millis(200);

/// How long to wait when the system cannot even wait: it has no memory left for the moment.
const PAUSE: Duration = Duration::from_millis(10);

/// Starts the supervisor of a pool; it ends when the pool is closed.
pub(crate) fn spawn(inner: Arc<Inner>) -> io::Result<()> {
    let run = move || {
        // Without this, signals might be handled here and not wake the thread that waits for them.
        let _ = block_signals();
        Supervisor { inner, ended: HashMap::new() }.run();
    };
    std::thread::Builder::new().name("ungil-pool".to_owned()).spawn(run).map(drop)
}

struct Supervisor {
    inner: Arc<Inner>,
    /// Workers that have ended and whose ending the zygote has not told: since when.
    ended: HashMap<u64, Instant>,
}

impl Supervisor {
    fn run(mut self) {
        while self.inner.origin.is_here() {
            self.wait_for_events();
            if !self.work() {
                break;
            }
        }
        self.inner.lose_zygote();
    }

    /// Sleeps until something has happened, and takes note of who was started and who has ended.
    fn wait_for_events(&mut self) {
        let connection =
            self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let check_at;
        let processes: Vec<(u64, Arc<OwnedFd>)> = {
            let core = self.inner.lock();
            check_at = core.check_at;
            let workers = core.workers.iter().flatten();
            workers
                .filter(|worker| !self.ended.contains_key(&worker.number))
                .filter_map(|it| Some((it.number, it.process.as_ref()?.1.clone())))
                .collect()
        };
        let mut waiting = vec![PollFd::new(&self.inner.event, PollFlags::IN)];
        waiting.extend(processes.iter().map(|(_, it)| PollFd::new(&**it, PollFlags::IN)));
        if let Some(connection) = &connection {
            waiting.push(PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN));
        }
        let report = self.ended.values().min().map(|it| REPORT_LIMIT.saturating_sub(it.elapsed()));
        let check = check_at.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = [report, check].into_iter().flatten().min().map(|limit| Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(&mut waiting, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return,
            Err(_) => return std::thread::sleep(PAUSE),
        }
        let mut ready: Vec<bool> = waiting.iter().map(|it| !it.revents().is_empty()).collect();
        if ready[0] {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.inner.event, &mut count);
        }
        if let Some(connection) = &connection
            && ready.pop() == Some(true)
        {
            match connection.receive() {
                Ok(Some((event, descriptor))) => self.note(event, descriptor),
                // With the zygote the kernel ends all its workers. Those that were started are
                // buried when the kernel says so, the others now.
                Ok(None) | Err(_) => self.inner.lose_zygote(),
            }
        }
        for ((number, _), _) in processes.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            self.ended.insert(*number, Instant::now());
        }
        let is_alone = connection.is_none();
        let overdue: Vec<u64> = self
            .ended
            .iter()
            .filter(|(_, since)| is_alone || since.elapsed() >= REPORT_LIMIT)
            .map(|(number, _)| *number)
            .collect();
        for number in overdue {
            self.bury(number, None);
        }
    }

    fn note(&mut self, event: Event, descriptor: Option<OwnedFd>) {
        match event {
            Event::Started { worker, pid } => match descriptor {
                Some(descriptor) => self.inner.lock().started(worker, pid, descriptor),
                None => {
                    // Its descriptor had no room in this process. A worker that cannot be watched
                    // must not live, and only the zygote can end it.
                    self.inner.break_down(&rustix::io::Errno::MFILE.into());
                    self.inner.lose_zygote();
                }
            },
            Event::Refused { worker, error } => {
                self.bury(worker, None);
                self.inner.break_down(&io::Error::from_raw_os_error(error));
            }
            Event::Ended { worker, ending } => self.bury(worker, Some(ending)),
        }
    }

    fn bury(&mut self, number: u64, ending: Option<Ending>) {
        self.ended.remove(&number);
        self.inner.lock().bury(number, ending);
    }

    /// Moves what there is to move; `false` when the pool is closed.
    fn work(&mut self) -> bool {
        let missing = {
            let mut core = self.inner.lock();
            core.disarm();
            core.pump();
            if core.check_at.is_some_and(|at| at <= Instant::now()) {
                core.check_at = None;
                let is_more_to_check = core.check();
                core.pump();
                if is_more_to_check {
                    core.check_later();
                }
            }
            // It will see for itself when to check.
            core.wants_check = false;
            core.settle();
            if core.phase == Phase::Closed {
                return false;
            }
            core.missing_workers(0)
        };
        self.inner.start(missing);
        true
    }
}
