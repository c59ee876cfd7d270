//! How late the calling thread gets its turn.
//!
//! A program that hands work out wants to stay responsive: redraw a window, answer a request.
//! The ticker stands for that: a tick is due every 5 ms, and its delay is the time from when it
//! was due until the calling thread could act on it. Ticks that fell due while the thread was
//! busy are all late, so a caller that runs the tasks itself (serial) is as late as they are
//! long.

use std::time::{Duration, Instant};

/// Time between two ticks.
pub const TICK: Duration = Duration::from_millis(5);

/// Delays kept at most; a longer run goes on ticking and keeps the first ones.
const DELAYS_LIMIT: usize = 1 << 20;

/// The ticks of one run.
#[derive(Debug)]
pub struct Ticker {
    next_due: Instant,
    delays: Vec<Duration>,
}

impl Ticker {
    /// A ticker whose first tick is due 5 ms from `now`.
    pub fn starting_at(now: Instant) -> Ticker {
        Ticker { next_due: now + TICK, delays: Vec::new() }
    }

    /// Time from `now` until the next tick is due; zero if it already is.
    pub fn until_due(&self, now: Instant) -> Duration {
        self.next_due.saturating_duration_since(now)
    }

    /// The calling thread has its turn at `now`: every tick due by then is handled.
    pub fn turn(&mut self, now: Instant) {
        while self.next_due <= now {
            if self.delays.len() < DELAYS_LIMIT {
                self.delays.push(now - self.next_due);
            }
            self.next_due += TICK;
        }
    }

    /// The delays of all ticks so far, in seconds.
    pub fn into_delays_s(self) -> Vec<f64> {
        self.delays.iter().map(Duration::as_secs_f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_punctual_caller_has_no_delay() {
        let start = Instant::now();
        let mut ticker = Ticker::starting_at(start);
        for tick in 1..=4 {
            ticker.turn(start + TICK * tick);
        }
        assert_eq!(ticker.into_delays_s(), [0.0; 4]);
    }

    #[test]
    fn ticks_missed_while_the_caller_was_busy_are_all_late() {
        let start = Instant::now();
        let mut ticker = Ticker::starting_at(start);
        ticker.turn(start + Duration::from_millis(21));
        let delays = ticker.into_delays_s();
        assert_eq!(delays.len(), 4);
        assert!((delays[0] - 0.016).abs() < 1e-9 && (delays[3] - 0.001).abs() < 1e-9);
    }

    #[test]
    fn an_early_turn_handles_nothing() {
        let start = Instant::now();
        let mut ticker = Ticker::starting_at(start);
        ticker.turn(start + Duration::from_millis(1));
        assert_eq!(ticker.until_due(start + Duration::from_millis(2)), Duration::from_millis(3));
        assert!(ticker.into_delays_s().is_empty());
    }
}
