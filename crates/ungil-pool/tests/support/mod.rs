//! Whole pools for tests: a process for each test, a zygote that it forks, and workers that do what
//! a line of text tells them.

#![allow(dead_code, reason = "each test binary uses some of it")]

pub mod host;
pub mod isolated;
pub mod script;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ungil_pool::{
    Cell, Crash, Ending, Failure, Growing, Inline, Likeness, Outcome, Pace, Pool, Received,
    Refusal, Results, Run, RunOutcome, Settings, Task, Waited,
};

pub use host::Host;
pub use isolated::isolated;

/// A pool, its zygote, and two pipes: workers write into one and read from the other.
pub struct Fixture {
    pub pool: Option<Pool>,
    pub host: Host,
    pub likeness: Likeness,
    told: File,
    gate: File,
}

/// One thread and one worker, no spinning: what each test changes, it says.
pub fn settings() -> Settings {
    Settings {
        workers_max: 1,
        threads_per_worker: 1,
        starts_all: false,
        tasks_per_worker_max: None,
        cpus: 1,
    }
}

pub fn workers(workers_max: u32) -> Settings {
    Settings { workers_max, ..settings() }
}

/// A pipe that no executed program inherits.
pub fn pipe() -> (File, File) {
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("two descriptors");
    (File::from(read), File::from(write))
}

impl Fixture {
    /// A pool of sound workers.
    pub fn new(settings: Settings) -> Fixture {
        Fixture::of(settings, "sound")
    }

    /// A pool of workers that follow a script; see [`script`].
    pub fn of(settings: Settings, script: &str) -> Fixture {
        let (told, tell) = pipe();
        let (wait, gate) = pipe();
        let host = Host::new();
        let pool = Pool::new(settings, host.connect()).expect("memory and descriptors");
        let likeness = Likeness {
            bytes: script.as_bytes().into(),
            descriptors: vec![OwnedFd::from(tell), OwnedFd::from(wait)].into(),
        };
        Fixture { pool: Some(pool), host, likeness, told, gate }
    }

    pub fn pool(&self) -> &Pool {
        self.pool.as_ref().expect("it was not dropped")
    }

    /// Submits a task without blocks and starts the workers that it needs.
    pub fn submit(&self, command: &str) -> Arc<Cell> {
        self.submit_parts(&[command.as_bytes()])
    }

    pub fn submit_parts(&self, parts: &[&[u8]]) -> Arc<Cell> {
        self.try_submit(parts).expect("the pool is open")
    }

    pub fn try_submit(&self, parts: &[&[u8]]) -> Result<Arc<Cell>, Refusal> {
        let payload = self.pool().store(parts).expect("memory");
        let (cell, missing) = self.pool().submit(Task { function: None, payload })?;
        if missing > 0 {
            self.pool().start(missing, self.likeness.clone());
        }
        Ok(cell)
    }

    /// Submits items, one a line, and starts the workers that they need.
    pub fn submit_items(&self, lines: &[&str], pace: &Arc<Pace>) -> Arc<Results> {
        let mut text = String::new();
        let mut ends = Vec::new();
        for line in lines {
            text += line;
            text.push('\n');
            ends.push(text.len() as u32);
        }
        let function = self.pool().function(b"items", true).expect("memory");
        let begun = self.pool().begin_batch(function, pace.clone(), text.len() as u64);
        let mut batch = begun.expect("memory");
        self.extend(&mut batch, text.as_bytes(), &ends);
        batch.results().clone()
    }

    pub fn extend(&self, batch: &mut Growing, bytes: &[u8], ends: &[u32]) {
        let missing = self.pool().extend_batch(batch, bytes, ends).expect("the pool is open");
        if missing > 0 {
            self.pool().start(missing, self.likeness.clone());
        }
    }

    /// Submits so many items that follow from a description.
    pub fn submit_described(&self, count: u32, pace: &Arc<Pace>) -> Arc<Results> {
        let function = self.pool().function(b"items", true).expect("memory");
        let description = Inline::new(b"numbers").expect("it fits");
        let submitted = self.pool().submit_described(function, pace.clone(), description, count);
        let (results, missing) = submitted.expect("the pool is open");
        if missing > 0 {
            self.pool().start(missing, self.likeness.clone());
        }
        results
    }

    /// The outcomes of so many items from the first one on, in order, as text.
    pub fn items(&self, results: &Arc<Results>, first: u32, count: u32) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count as usize {
            let next = first + texts.len() as u32;
            let waited = self.pool().wait_for_item(results, next, None, &mut || false);
            assert_eq!(waited, Waited::Done);
            texts.extend(told(results.take(next).expect("it is there")));
        }
        texts
    }

    /// Waits for ever; a test that hangs is ended from outside.
    pub fn wait(&self, cell: &Arc<Cell>) {
        assert_eq!(self.pool().wait(cell, None, &mut || false), Waited::Done);
    }

    pub fn outcome(&self, cell: &Arc<Cell>) -> Outcome {
        self.wait(cell);
        let outcome = cell.take().expect("there is an outcome");
        assert!(cell.take().is_none(), "an outcome is there once");
        outcome
    }

    /// What a task returned, as text.
    pub fn text(&self, cell: &Arc<Cell>) -> String {
        match self.outcome(cell) {
            Outcome::Returned(received) => String::from_utf8(bytes(&received)).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    pub fn crash(&self, cell: &Arc<Cell>) -> Crash {
        match self.outcome(cell) {
            Outcome::Crashed(crash) => crash,
            other => panic!("{other:?}"),
        }
    }

    pub fn failure(&self, cell: &Arc<Cell>) -> Failure {
        match self.outcome(cell) {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    pub fn broken(&self, cell: &Arc<Cell>) -> String {
        match self.failure(cell) {
            Failure::Broken(reason) => reason.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// A task that says that it has begun, and then waits for [`release`](Fixture::release). It is
    /// running when this returns.
    pub fn hold(&self) -> Arc<Cell> {
        let cell = self.submit("hold");
        self.hear(1);
        cell
    }

    /// Waits until workers have written so many bytes.
    pub fn hear(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        (&self.told).read_exact(&mut bytes).expect("the pipe is open here too");
        bytes
    }

    /// Lets so many tasks that hold go on.
    pub fn release(&self, count: usize) {
        (&self.gate).write_all(&vec![b'.'; count]).expect("there is room");
    }

    /// The workers, once all that were asked for are known: one may run tasks before it is.
    pub fn pids(&self) -> Vec<u32> {
        self.pool().wait_started();
        self.pool().workers().iter().map(|worker| worker.pid).collect()
    }

    pub fn wait_closed(&self) {
        assert_eq!(self.pool().wait_closed(None, &mut || false), Waited::Done);
        assert!(self.pool().is_closed());
        assert_eq!(self.pool().pending(), 0);
        assert!(self.pool().workers().is_empty());
    }

    /// Runs what was submitted to its end.
    pub fn close(&self) {
        self.pool().close(ungil_pool::Cancel::Nothing);
        self.wait_closed();
    }

    /// Waits until nothing of the pool's arena is in use. Blocks come back with what the pool takes
    /// in, so it is asked to.
    pub fn wait_unused(&self) {
        until(|| {
            self.pool().poll();
            self.pool().in_use_bytes() == 0
        });
    }
}

/// The bytes of all parts of a result.
pub fn bytes(received: &Received) -> Vec<u8> {
    match received {
        Received::Inline(inline) => inline.bytes().to_vec(),
        Received::Lent(lent) => {
            let parts = lent.parts().expect("a sound block").len();
            (0..parts).flat_map(|part| lent.copy(part).expect("a sound part")).collect()
        }
    }
}

/// What a run says of each of its items.
pub fn told(run: Run) -> Vec<String> {
    let all = |text: String| vec![text; run.count as usize];
    match run.outcome {
        RunOutcome::Values { received, skip } => {
            let bytes = received.into_bytes().expect("a sound log");
            let text = String::from_utf8(bytes).expect("text");
            let values = text.lines().skip(skip as usize).take(run.count as usize);
            let values: Vec<String> = values.map(str::to_owned).collect();
            assert_eq!(values.len(), run.count as usize);
            values
        }
        RunOutcome::Ended(Outcome::Returned(received)) => {
            all(String::from_utf8(bytes(&received)).expect("text"))
        }
        RunOutcome::Ended(Outcome::Raised(received)) => {
            all(format!("raised {}", String::from_utf8(bytes(&received)).expect("text")))
        }
        RunOutcome::Ended(Outcome::Crashed(crash)) => all(format!("crashed {:?}", crash.ending)),
        RunOutcome::Ended(Outcome::Failed(Failure::Broken(reason))) => {
            all(format!("broken {reason}"))
        }
        RunOutcome::Ended(Outcome::Failed(Failure::Corrupted { .. })) => all("corrupted".into()),
        RunOutcome::Cancelled => all("cancelled".into()),
    }
}

/// Looks again and again at something that nobody rings for. What never comes is ended from outside.
pub fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

pub fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(20))
}

/// The state letter of a process, as the kernel shows it.
pub fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

pub fn signal(pid: u32, number: i32) {
    // SAFETY: a signal to a process of this test's own.
    assert_eq!(unsafe { libc::kill(pid as i32, number) }, 0);
}

/// How many times each text came.
pub fn counted(texts: impl IntoIterator<Item = String>) -> HashMap<String, usize> {
    texts.into_iter().fold(HashMap::new(), |mut counts, text| {
        *counts.entry(text).or_default() += 1;
        counts
    })
}

pub const KILLED: Option<Ending> = Some(Ending::Killed(libc::SIGKILL));
