//! How many tasks a worker may hold at once.
//!
//! A worker should never run out of tasks while there are some, and should hold none that another
//! could begin now. Tiny tasks are sent ahead, so that one look at the rings serves many of them; of
//! long ones just one waits behind those that run. What was sent ahead can be taken back until it
//! is begun, so that an idle worker gets it.

/// How much work is sent ahead, in ns: many times what a refill takes.
const AHEAD_NS: f64 = 300_000.0;
/// Never more than this, so that a ring has room for what was taken back but not yet passed over.
const AHEAD_MAX: f64 = 256.0;

/// What is known of the running times of a pool's tasks.
#[derive(Debug, Default)]
pub struct Credit {
    run_ns: Option<f64>,
}

impl Credit {
    /// Notes how long a task ran, in ns.
    ///
    /// Follows a rise faster than a fall: too little sent ahead costs a little, too much makes
    /// tasks wait behind a long one.
    pub fn note(&mut self, run_ns: u64) {
        let run_ns = run_ns as f64;
        self.run_ns = Some(match self.run_ns {
            None => run_ns,
            Some(known) if run_ns > known => known + (run_ns - known) / 2.0,
            Some(known) => known + (run_ns - known) / 4.0,
        });
    }

    /// How many tasks are done in so many ns; 0 where nothing is known.
    pub fn within(&self, limit_ns: f64) -> u32 {
        self.run_ns.map_or(0, |run_ns| (limit_ns / run_ns.max(1.0)).min(AHEAD_MAX) as u32)
    }

    /// Tasks that a worker with so many threads may hold, running ones included.
    pub fn limit(&self, threads: u32) -> u32 {
        let ahead = match self.run_ns {
            None => 1.0,
            Some(run_ns) => (AHEAD_NS / run_ns.max(1.0)).clamp(1.0, AHEAD_MAX),
        };
        threads + (ahead * f64::from(threads)).min(AHEAD_MAX) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Credit;

    #[test]
    fn long_tasks_have_one_behind_them_and_tiny_ones_many() {
        let mut credit = Credit::default();
        assert_eq!(credit.limit(1), 2);
        credit.note(1_000_000_000);
        assert_eq!(credit.limit(1), 2);
        (0..200).for_each(|_| credit.note(500));
        assert_eq!(credit.limit(1), 257);
    }

    #[test]
    fn short_tasks_are_several_in_a_short_time() {
        let mut credit = Credit::default();
        assert_eq!(credit.within(10_000.0), 0);
        (0..200).for_each(|_| credit.note(1_000));
        assert!((9..=10).contains(&credit.within(10_000.0)));
        credit.note(1_000_000_000);
        assert_eq!(credit.within(10_000.0), 0);
    }

    #[test]
    fn one_long_task_ends_the_sending_ahead() {
        let mut credit = Credit::default();
        (0..100).for_each(|_| credit.note(500));
        credit.note(1_000_000_000);
        assert_eq!(credit.limit(1), 2);
    }

    #[test]
    fn a_ring_holds_what_a_worker_may_hold() {
        let mut credit = Credit::default();
        credit.note(1);
        assert!(credit.limit(64) < ungil_shm::channel::TASK_SLOTS);
    }
}
