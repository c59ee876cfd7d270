//! One thread that waits, and how it is woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ungil_shm::{Doorbell, Wake};

const WANTED: u32 = 1;

/// A thread of this process that waits for something.
#[derive(Debug, Default)]
pub struct Waiter {
    bell: Doorbell,
    notified: AtomicBool,
}

impl Waiter {
    /// Sleeps until [`notify`](Waiter::notify) has been called since the last return of `Rung`.
    pub fn wait(&self, deadline: Option<Instant>) -> Wake {
        loop {
            let ticket = self.bell.ticket();
            self.bell.arm(WANTED);
            let wake = if self.notified.swap(false, Ordering::AcqRel) {
                Some(Wake::Rung)
            } else {
                match self.bell.wait(ticket, deadline) {
                    Wake::Rung if self.notified.swap(false, Ordering::AcqRel) => Some(Wake::Rung),
                    Wake::Rung => None,
                    wake => Some(wake),
                }
            };
            self.bell.disarm(WANTED);
            if let Some(wake) = wake {
                return wake;
            }
        }
    }

    /// Wakes the thread, or lets its next wait return at once.
    pub fn notify(&self) {
        self.notified.store(true, Ordering::Release);
        if self.bell.wanted() & WANTED != 0 {
            self.bell.ring();
        }
    }
}
