//! The host's loop: one request, one answer, until the experiment hangs up.
//!
//! Every time is taken here, around the engine's calls, so that all models and engines are
//! measured by the same clock at the same place. The payloads of requests and the comparison of
//! results stay outside the measured time.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use ungil_advise::Model;
use ungil_observe::Tree;
use ungil_observe::process::Pid;

use crate::engine::{Pool, Workload};
use crate::frame;
use crate::message::{
    Agreement, Failure, FailureKind, Instruments, Reply, Request, Run, Setup, StartUp,
};
use crate::ticker::Ticker;

/// Items or results beyond this size are neither shared nor compared.
pub const PAYLOAD_LIMIT_BYTES: usize = 256 << 20;

/// Exit code of a host whose channel was closed or written into by the function.
pub const CHANNEL_LOST: i32 = 113;

/// Counts processes that a task forked and that came back from the task.
///
/// It is an eventfd because the children share it with the host whatever else they copied.
static STRAYS: OnceLock<OwnedFd> = OnceLock::new();

/// Notes, from such a child, that it came back. The caller then ends the child.
pub fn note_stray() {
    if let Some(counter) = STRAYS.get() {
        // The host may be gone already, and then nobody is left to tell.
        let _ = rustix::io::write(counter, &1_u64.to_ne_bytes());
    }
}

fn take_strays() -> usize {
    let mut count = [0_u8; 8];
    match STRAYS.get().map(|counter| rustix::io::read(counter, &mut count)) {
        Some(Ok(8)) => u64::from_ne_bytes(count) as usize,
        _ => 0,
    }
}

/// Nanoseconds on the clock that all processes of the machine share (`CLOCK_MONOTONIC`).
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Serves one experiment over `channel` until it hangs up.
///
/// `keeper` is the process whose descendants are this host and everything that its tasks start.
///
/// # Errors
/// Whatever the channel says, other than the experiment hanging up.
pub fn serve(channel: UnixStream, workload: &mut dyn Workload, keeper: Pid) -> io::Result<()> {
    let counter = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    // A second host in the same process, as in tests, goes on with the first one's counter.
    let _ = STRAYS.set(counter);
    let mut host = Host {
        workload,
        keeper,
        pool: None,
        model: Model::Serial,
        is_compared: false,
        own_process: std::process::id(),
        quiet_tree: 0,
    };
    let (mut reader, mut writer) = (io::BufReader::new(channel.try_clone()?), channel);
    loop {
        let (request, payload) = match frame::read::<Request>(&mut reader) {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let (reply, payload) = host.answer(request, &payload);
        if std::process::id() != host.own_process {
            // A task forked, and its child came back up to here: it must not answer as the host.
            note_stray();
            // SAFETY: ends this process at once; nothing of the host's is touched again.
            unsafe { libc::_exit(0) };
        }
        frame::write(&mut writer, &reply, &payload)?;
    }
}

/// CPU time of the host and everything below its keeper, between two moments.
struct CpuMeter {
    keeper: Pid,
    others: Duration,
    own: Duration,
}

impl CpuMeter {
    /// Starts the meter; looking through the tree is over when its own reading is taken.
    fn start(keeper: Pid) -> CpuMeter {
        let others = Tree::below(keeper).cpu_time_without(own_pid());
        CpuMeter { keeper, others, own: own_cpu_time() }
    }

    /// CPU time since the start; its own reading is taken before looking through the tree.
    fn stop(&self) -> Duration {
        let own = own_cpu_time().saturating_sub(self.own);
        let others = Tree::below(self.keeper).cpu_time_without(own_pid());
        own + others.saturating_sub(self.others)
    }
}

fn own_pid() -> Pid {
    std::process::id() as Pid
}

fn own_cpu_time() -> Duration {
    ungil_observe::process::cpu_time(own_pid()).unwrap_or_default()
}

struct Host<'a> {
    workload: &'a mut dyn Workload,
    keeper: Pid,
    pool: Option<Box<dyn Pool>>,
    model: Model,
    is_compared: bool,
    own_process: u32,
    /// Processes in the tree when the pool had started.
    quiet_tree: usize,
}

impl Host<'_> {
    fn answer(&mut self, request: Request, payload: &[u8]) -> (Reply, Vec<u8>) {
        let reply = match request {
            Request::ShareItems => return shared(self.workload.items(PAYLOAD_LIMIT_BYTES)),
            Request::ShareResults => return shared(self.workload.results(PAYLOAD_LIMIT_BYTES)),
            Request::Load(job) => {
                self.workload.load(&job, payload).map(|loaded| Reply::Loaded(Box::new(loaded)))
            }
            Request::Start(setup) => self.start(&setup).map(Reply::Started),
            Request::Run(instruments) => self.run(instruments).map(|run| Reply::Ran(Box::new(run))),
            Request::Once(setup) => self.once(&setup).map(|run| Reply::Ran(Box::new(run))),
            Request::ProbeSharing => {
                self.pool().and_then(|pool| pool.probe_sharing()).map(Reply::Sharing)
            }
            Request::ProbeSerialisation => self.workload.serialisation().map(Reply::Serialisation),
            Request::Reference => {
                self.is_compared = true;
                self.workload.set_reference(payload).map(|()| Reply::Done)
            }
            Request::Stop => self.stop().map(|()| Reply::Done),
        };
        (reply.unwrap_or_else(Reply::Failed), Vec::new())
    }

    fn pool(&mut self) -> Result<&mut Box<dyn Pool>, Failure> {
        self.pool
            .as_mut()
            .ok_or_else(|| Failure::new(FailureKind::Internal, "no pool is open in the host"))
    }

    fn start(&mut self, setup: &Setup) -> Result<StartUp, Failure> {
        self.stop()?;
        self.model = setup.model;
        let opened_at_ns = monotonic_ns();
        let mut pool = self.workload.engine(&setup.engine)?.open(setup)?;
        let start_up = pool.start(opened_at_ns);
        self.pool = Some(pool);
        // What the pool itself needs besides, such as a resource tracker, is nothing left behind.
        self.quiet_tree = Tree::below(self.keeper).pids().len();
        start_up
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.pool.take().map_or(Ok(()), |mut pool| pool.close())
    }

    fn run(&mut self, instruments: Instruments) -> Result<Run, Failure> {
        let keeper = self.keeper;
        let pool = self.pool()?;
        let meter = CpuMeter::start(keeper);
        let started = Instant::now();
        let mut delays_s = Vec::new();
        let mut log = Vec::new();
        match instruments {
            Instruments { ticking: true, .. } => {
                let mut ticker = pool.run_ticking(Ticker::starting_at(started))?;
                ticker.turn(Instant::now());
                delays_s = ticker.into_delays_s();
            }
            Instruments { logged: true, .. } => log = pool.run_logged()?,
            Instruments { .. } => pool.run()?,
        }
        let wall = started.elapsed();
        let cpu = meter.stop();
        Ok(Run { tick_delays_s: delays_s, log, ..self.finished(wall, cpu, self.left_running()) })
    }

    fn once(&mut self, setup: &Setup) -> Result<Run, Failure> {
        self.model = setup.model;
        let meter = CpuMeter::start(self.keeper);
        let started = Instant::now();
        let mut pool = self.workload.engine(&setup.engine)?.open(setup)?;
        let outcome = pool.run();
        let closed = pool.close();
        let wall = started.elapsed();
        outcome.and(closed)?;
        let cpu = meter.stop();
        Ok(self.finished(wall, cpu, 0))
    }

    /// Processes below the keeper that the open pool did not need when it had started.
    ///
    /// Pools of processes start and end workers as they like, so there it cannot be told.
    fn left_running(&self) -> usize {
        if self.model.uses_processes() {
            return 0;
        }
        Tree::below(self.keeper).pids().len().saturating_sub(self.quiet_tree)
    }

    /// What is found out about a run after its clock has stopped.
    fn finished(&self, wall: Duration, cpu: Duration, left_running: usize) -> Run {
        Run {
            wall_s: wall.as_secs_f64(),
            cpu_s: cpu.as_secs_f64(),
            agreement: if self.is_compared {
                self.workload.agreement()
            } else {
                Agreement::NotCompared
            },
            tick_delays_s: Vec::new(),
            log: Vec::new(),
            strays: take_strays(),
            left_running,
        }
    }
}

fn shared(payload: Option<Vec<u8>>) -> (Reply, Vec<u8>) {
    (Reply::Payload(payload.is_some()), payload.unwrap_or_default())
}
