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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::{Duration, Instant};

    use ungil_shm::Wake;

    use super::Waiter;

    #[test]
    fn a_call_before_the_wait_lets_it_return_at_once_and_once_only() {
        let waiter = Waiter::default();
        waiter.notify();
        waiter.notify();
        assert_eq!(waiter.wait(None), Wake::Rung);
        let past = Some(Instant::now());
        assert_eq!(waiter.wait(past), Wake::TimedOut);
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(waiter.wait(soon), Wake::TimedOut);
    }

    #[test]
    fn a_call_is_kept_over_a_wait_that_timed_out() {
        let waiter = Waiter::default();
        assert_eq!(waiter.wait(Some(Instant::now())), Wake::TimedOut);
        waiter.notify();
        assert_eq!(waiter.wait(Some(Instant::now())), Wake::Rung);
    }

    #[test]
    fn no_call_of_another_thread_is_lost() {
        const ROUNDS: u32 = 20_000;
        let waiter = Arc::new(Waiter::default());
        let published = Arc::new(AtomicU32::new(0));
        let (seen, seens) = mpsc::channel();
        let notifier = {
            let (waiter, published) = (waiter.clone(), published.clone());
            thread::spawn(move || {
                for round in 1..=ROUNDS {
                    published.store(round, Ordering::Relaxed);
                    waiter.notify();
                    assert_eq!(seens.recv(), Ok(round));
                }
            })
        };
        for round in 1..=ROUNDS {
            assert_eq!(waiter.wait(None), Wake::Rung);
            assert_eq!(published.load(Ordering::Relaxed), round, "what came before is seen");
            seen.send(round).expect("it listens");
        }
        notifier.join().expect("no panic");
    }
}
