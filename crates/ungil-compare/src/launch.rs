//! The experiment's end of a host.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open};
use ungil_observe::Tree;

use crate::ending::end_processes;
use crate::frame;
use crate::message::{Reply, Request};

/// How much of what a function prints is kept.
const OUTPUT_LIMIT_BYTES: usize = 64 << 10;
/// How often the caller of an exchange is asked whether it still wants the answer.
const PULSE: Duration = Duration::from_millis(50);
/// How long a keeper may take to end what it keeps before its session is killed for it.
const ENDING_LIMIT: Duration = Duration::from_secs(12);
/// A memory reading may take this share of the time between readings.
const MEMORY_READING_SHARE: u32 = 20;

/// Starts hosts.
pub trait Launch {
    /// Starts a fresh host.
    ///
    /// # Errors
    /// Why no process could be started.
    fn launch(&mut self) -> io::Result<Host>;
}

/// Starts hosts as processes: a keeper that forks the host.
#[derive(Debug, Clone)]
pub struct ProcessLauncher {
    /// The program to run.
    pub program: PathBuf,
    /// Its arguments. The channel is its standard input.
    pub arguments: Vec<OsString>,
}

impl Launch for ProcessLauncher {
    fn launch(&mut self) -> io::Result<Host> {
        let (ours, theirs) = UnixStream::pair()?;
        let (output, output_end) = io::pipe()?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let keeper = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(output_end.try_clone()?)
            .stderr(output_end)
            .spawn()?;
        Ok(Host {
            channel: Some(ours),
            // Without one, only the channel tells; it does so late if workers still hold it.
            keeper_end: pidfd_open(Pid::from_child(&keeper), PidfdFlags::empty()).ok(),
            keeper: Some(keeper),
            output: Some(File::from(OwnedFd::from(output))),
            printed: Printed::default(),
            memory_peak_bytes: None,
        })
    }
}

/// What a function printed, its beginning kept and all of it counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    /// The first 64 KiB.
    pub beginning: Vec<u8>,
    /// All bytes.
    pub bytes: usize,
    /// All line ends.
    pub lines: usize,
}

impl Printed {
    fn add(&mut self, text: &[u8]) {
        let room = OUTPUT_LIMIT_BYTES.saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&text[..room.min(text.len())]);
        self.bytes += text.len();
        self.lines += text.iter().filter(|byte| **byte == b'\n').count();
    }
}

/// Why an exchange gave no reply.
#[derive(Debug)]
pub enum Lost {
    /// The host ended; how, where it was a process.
    Ended(Option<ExitStatus>),
    /// The deadline passed.
    TimedOut,
    /// The caller no longer wanted the answer.
    Interrupted,
    /// The channel broke or carried something that is no message.
    Broken(io::Error),
}

/// What a wait ended with.
enum Event {
    Readable,
    KeeperEnded,
    Nothing,
}

/// A running host. Dropping it ends it and everything it started.
#[derive(Debug)]
pub struct Host {
    channel: Option<UnixStream>,
    keeper: Option<Child>,
    keeper_end: Option<OwnedFd>,
    output: Option<File>,
    /// What the function printed so far.
    pub printed: Printed,
    /// The highest proportional set size of the process tree seen so far, in bytes.
    pub memory_peak_bytes: Option<u64>,
}

impl Host {
    /// A host at the other end of a channel that is no process of its own, as in tests.
    pub fn from_channel(channel: UnixStream) -> Host {
        Host {
            channel: Some(channel),
            keeper_end: None,
            keeper: None,
            output: None,
            printed: Printed::default(),
            memory_peak_bytes: None,
        }
    }

    /// Sends a request and waits for its reply until `deadline`.
    ///
    /// `is_wanted` is asked about 20 times a second. With `reads_memory` the memory of the
    /// host's processes is read meanwhile, at intervals that cost at most 5 % of the time.
    ///
    /// # Errors
    /// Why there is no reply. The host is of no use after that.
    pub fn exchange(
        &mut self,
        request: &Request,
        payload: &[u8],
        deadline: Instant,
        reads_memory: bool,
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<(Reply, Vec<u8>), Lost> {
        let Some(channel) = &mut self.channel else { return Err(Lost::Ended(None)) };
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(Lost::TimedOut);
        }
        let sent = channel
            .set_write_timeout(Some(remaining))
            .and_then(|()| frame::write(channel, request, payload));
        if let Err(error) = sent {
            return Err(self.lost(error));
        }
        self.await_readable(deadline, reads_memory, is_wanted)?;
        let Some(channel) = &mut self.channel else { return Err(Lost::Ended(None)) };
        let read = channel.set_read_timeout(Some(ENDING_LIMIT)).and_then(|()| frame::read(channel));
        if reads_memory {
            self.read_memory();
        }
        self.drain_output();
        read.map_err(|error| self.lost(error))
    }

    fn await_readable(
        &mut self,
        deadline: Instant,
        reads_memory: bool,
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Lost> {
        let mut pause = Duration::from_millis(2);
        let mut next_reading = Instant::now() + pause;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(Lost::TimedOut);
            }
            if !is_wanted() {
                return Err(Lost::Interrupted);
            }
            if reads_memory && now >= next_reading {
                self.read_memory();
                pause = (now.elapsed() * MEMORY_READING_SHARE).max(pause);
                next_reading = Instant::now() + pause;
            }
            let mut wait = PULSE.min(deadline.saturating_duration_since(now));
            if reads_memory {
                wait = wait.min(next_reading.saturating_duration_since(now));
            }
            match self.wait_for_events(wait).map_err(Lost::Broken)? {
                Event::Readable => return Ok(()),
                Event::KeeperEnded => return Err(Lost::Ended(self.end())),
                Event::Nothing => self.drain_output(),
            }
        }
    }

    /// Waits for the channel, the keeper's end or printed text.
    fn wait_for_events(&self, wait: Duration) -> io::Result<Event> {
        let Some(channel) = &self.channel else { return Ok(Event::Readable) };
        let mut watched = vec![PollFd::new(channel, PollFlags::IN)];
        let others =
            [self.keeper_end.as_ref().map(AsFd::as_fd), self.output.as_ref().map(AsFd::as_fd)];
        let has_keeper = others[0].is_some();
        watched.extend(
            others
                .into_iter()
                .flatten()
                .map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)),
        );
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut watched, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => Ok(Event::Nothing),
            Err(error) => Err(error.into()),
            // An answer that was sent before the end is an answer.
            Ok(_) if !watched[0].revents().is_empty() => Ok(Event::Readable),
            Ok(_) if has_keeper && !watched[1].revents().is_empty() => Ok(Event::KeeperEnded),
            Ok(_) => Ok(Event::Nothing),
        }
    }

    fn read_memory(&mut self) {
        if let Some(keeper) = &self.keeper {
            let bytes = Tree::below(keeper.id() as i32).proportional_set_size_bytes();
            self.memory_peak_bytes = self.memory_peak_bytes.max(Some(bytes));
        }
    }

    /// Takes what has been printed, so that the function never waits for a full pipe.
    pub fn drain_output(&mut self) {
        let Some(output) = &mut self.output else { return };
        if !read_available(output, &mut |text| self.printed.add(text)) {
            self.output = None;
        }
    }

    fn discard_output(&mut self) {
        if let Some(output) = &mut self.output {
            read_available(output, &mut |_| {});
        }
    }

    fn lost(&mut self, error: io::Error) -> Lost {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Lost::Ended(self.end()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Lost::TimedOut,
            _ => Lost::Broken(error),
        }
    }

    /// Tells the host to end, without waiting for it.
    pub fn hang_up(&mut self) {
        self.channel = None;
    }

    /// Ends the host and everything it started; returns how the host ended, if it was a process.
    pub fn end(&mut self) -> Option<ExitStatus> {
        // What is printed from here on comes from the ending and not from the function.
        self.drain_output();
        self.hang_up();
        let mut keeper = self.keeper.take()?;
        let pid = Pid::from_child(&keeper);
        let give_up_at = Instant::now() + ENDING_LIMIT;
        // The keeper is looked at but not yet reaped, so that its number, which is also that of
        // its session, cannot belong to anybody else while the session is ended.
        while !has_exited(pid) && Instant::now() < give_up_at {
            self.discard_output();
            std::thread::sleep(Duration::from_micros(500));
        }
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        // Only a keeper that was killed leaves anything of its session behind.
        end_processes(|| Tree::of_session(pid.as_raw_pid()), || self.discard_output());
        keeper.wait().ok()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads until nothing is there at the moment; `false` at the end of the stream.
fn read_available(output: &mut File, take: &mut dyn FnMut(&[u8])) -> bool {
    let mut buffer = [0_u8; 1 << 16];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => take(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

fn has_exited(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        rustix::process::waitid(WaitId::Pid(pid), options),
        Ok(None) | Err(rustix::io::Errno::INTR)
    )
}

/// Says how a process ended: `was killed by SIGKILL`, `ended with exit code 3`.
pub fn describe_end(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by {}", signal_name(signal)),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    let known = [
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGPIPE, "SIGPIPE"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == signal)
        .map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Host {
        let arguments = vec![OsString::from("-c"), OsString::from(script)];
        ProcessLauncher { program: PathBuf::from("/bin/sh"), arguments }.launch().unwrap()
    }

    fn ask(host: &mut Host, limit: Duration) -> Result<(Reply, Vec<u8>), Lost> {
        host.exchange(&Request::Stop, &[], Instant::now() + limit, false, &mut || true)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_process_that_ends_is_lost_with_its_status_and_what_it_printed() {
        let mut host = shell("echo one; echo two >&2; exit 3");
        let lost = ask(&mut host, LONG).unwrap_err();
        let Lost::Ended(Some(status)) = lost else { panic!("{lost:?}") };
        assert_eq!(describe_end(status), "ended with exit code 3");
        assert_eq!((host.printed.lines, host.printed.bytes), (2, 8));
    }

    #[test]
    fn a_process_that_is_killed_is_lost_with_its_signal() {
        let lost = ask(&mut shell("kill -SEGV $$"), LONG).unwrap_err();
        let Lost::Ended(Some(status)) = lost else { panic!("{lost:?}") };
        assert_eq!(describe_end(status), "was killed by SIGSEGV");
    }

    #[test]
    fn a_process_that_never_answers_is_lost_at_the_deadline() {
        let lost = ask(&mut shell("read line"), Duration::from_millis(1)).unwrap_err();
        assert!(matches!(lost, Lost::TimedOut), "{lost:?}");
    }

    #[test]
    fn an_answer_that_nobody_wants_any_more_is_not_waited_for() {
        let deadline = Instant::now() + LONG;
        let mut host = shell("read line");
        let lost = host.exchange(&Request::Stop, &[], deadline, false, &mut || false).unwrap_err();
        assert!(matches!(lost, Lost::Interrupted), "{lost:?}");
    }

    #[test]
    fn a_talkative_process_never_waits_for_a_full_pipe_and_its_beginning_is_kept() {
        let mut host = shell("head -c 1000000 /dev/zero; exit 0");
        let lost = ask(&mut host, LONG).unwrap_err();
        assert!(matches!(lost, Lost::Ended(Some(status)) if status.success()), "{lost:?}");
        assert_eq!(host.printed.bytes, 1_000_000);
        assert_eq!(host.printed.beginning.len(), OUTPUT_LIMIT_BYTES);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let arguments = Vec::new();
        let mut launcher = ProcessLauncher { program: "/nowhere/python".into(), arguments };
        assert!(launcher.launch().is_err());
    }
}
