//! One process: its parent, its CPU time, its memory.

use std::fs;
use std::time::Duration;

/// The number the kernel gives a process.
pub type Pid = i32;

/// The fields of `/proc/PID/stat` that the rest of the crate needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process itself.
    pub pid: Pid,
    /// The process that created it, or the reaper that inherited it.
    pub parent: Pid,
    /// The session that it belongs to.
    pub session: Pid,
    /// `true` once it has ended and only waits to be reaped.
    pub is_zombie: bool,
    /// CPU time of children that have ended and been waited for.
    pub reaped_children_cpu: Duration,
}

/// Reads `/proc/PID/stat`; `None` once the process is gone.
pub fn stat(pid: Pid) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name may hold spaces and parentheses, so the fields are counted from the last one.
fn parse_stat(line: &str) -> Option<Stat> {
    let open = line.find('(')?;
    let close = line.rfind(')')?;
    let pid = line[..open].trim().parse().ok()?;
    let fields: Vec<&str> = line.get(close + 1..)?.split_ascii_whitespace().collect();
    let ticks = |index: usize| -> Option<u64> { fields.get(index)?.parse().ok() };
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        reaped_children_cpu: ticks_to_duration(ticks(13)? + ticks(14)?),
    })
}

fn ticks_to_duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU time that all threads of a process have used so far, to the nanosecond.
///
/// The process's own CPU clock is read, because the ticks in `/proc/PID/stat` are 10 ms wide.
/// `None` once the process is gone.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for one clock number; the call reads no other memory.
    if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec; an ended process makes the call fail.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return None;
    }
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Proportional set size in bytes: private pages whole, shared pages divided by their sharers.
///
/// `None` where the process is gone or belongs to somebody else.
pub fn proportional_set_size_bytes(pid: Pid) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The words of a process's command line, joined by blanks; `None` once it is gone.
pub fn command_line(pid: Pid) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 7 42 40 0 -1 4194304 1 2 3 4 5 6 150 50 20 0 1 0 100 0 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.session, stat.is_zombie), (42, 7, 40, false));
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let expected = Duration::from_secs_f64(200.0 / per_second);
        assert_eq!(stat.reaped_children_cpu, expected);
    }

    #[test]
    fn a_truncated_line_is_no_process() {
        assert_eq!(parse_stat("42 (python) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn cpu_time_of_this_process_grows_with_work() {
        let pid = std::process::id() as Pid;
        let before = cpu_time(pid).unwrap();
        let mut sum = 0_u64;
        while cpu_time(pid).unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_time(pid).unwrap() > before);
    }

    #[test]
    fn this_process_has_memory_a_command_line_and_a_parent() {
        let pid = std::process::id() as Pid;
        assert!(proportional_set_size_bytes(pid).unwrap() > 100_000);
        assert!(command_line(pid).unwrap().contains("ungil_observe"));
        assert_eq!(stat(pid).unwrap().parent, std::os::unix::process::parent_id() as Pid);
    }

    #[test]
    fn an_ended_process_is_none_and_no_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as Pid;
        child.wait().unwrap();
        assert_eq!(stat(pid), None);
        assert_eq!(cpu_time(pid), None);
        assert_eq!(proportional_set_size_bytes(pid), None);
    }
}
