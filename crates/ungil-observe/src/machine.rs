//! Which processors this process may use, and what slows them down meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine as a program sees it that wants to spread work out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Processors that the machine has switched on.
    pub online_cpus: usize,
    /// Processors that the affinity mask of this process allows.
    pub affinity_cpus: usize,
    /// CPUs' worth of time that the control group grants, `null` without a quota.
    pub quota_cpus: Option<f64>,
    /// Name of the processor model, empty where the kernel does not tell.
    pub processor: String,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Bytes of memory that the machine has.
    pub memory_bytes: u64,
}

impl Machine {
    /// Reads the machine that this process runs on.
    pub fn read() -> Machine {
        let name = rustix::system::uname();
        Machine {
            online_cpus: std::thread::available_parallelism().map_or(1, usize::from).max(
                fs::read_to_string("/sys/devices/system/cpu/online")
                    .ok()
                    .and_then(|list| count_cpu_list(list.trim()))
                    .unwrap_or(1),
            ),
            affinity_cpus: rustix::thread::sched_getaffinity(None)
                .map_or(1, |set| set.count() as usize),
            quota_cpus: quota_cpus(),
            processor: field_of("/proc/cpuinfo", "model name").unwrap_or_default(),
            kernel: format!(
                "{} {}",
                name.sysname().to_string_lossy(),
                name.release().to_string_lossy()
            ),
            memory_bytes: rustix::system::sysinfo().totalram
                * u64::from(rustix::system::sysinfo().mem_unit),
        }
    }

    /// CPUs that this process can keep busy at once: affinity, cut by the quota, at least one.
    pub fn usable_cpus(&self) -> usize {
        let quota = self.quota_cpus.map_or(usize::MAX, |cpus| cpus.ceil() as usize);
        self.affinity_cpus.min(quota).max(1)
    }
}

/// Counts `0-3,8` as five processors.
fn count_cpu_list(list: &str) -> Option<usize> {
    list.split(',')
        .map(|range| match range.split_once('-') {
            None => range.parse::<usize>().ok().map(|_| 1),
            Some((first, last)) => {
                let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
                last.checked_sub(first).map(|more| more + 1)
            }
        })
        .sum()
}

fn field_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The tightest quota from this process's control group up to the root.
///
/// Version 2 keeps `cpu.max` in one hierarchy, version 1 `cpu.cfs_quota_us` in the cpu hierarchy.
fn quota_cpus() -> Option<f64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    membership
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
            if controllers.is_empty() {
                let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
                return roots.iter().find_map(|root| tightest(root, group, quota_version_2));
            }
            controllers.split(',').any(|name| name == "cpu").then_some(())?;
            tightest("/sys/fs/cgroup/cpu", group, quota_version_1)
        })
        .reduce(f64::min)
}

fn tightest(root: &str, group: &str, read: fn(&Path) -> Option<f64>) -> Option<f64> {
    let mut folder = PathBuf::from(format!("{root}/{}", group.trim_start_matches('/')));
    let mut found: Option<f64> = None;
    while folder.starts_with(root) {
        if let Some(quota) = read(&folder) {
            found = Some(found.map_or(quota, |other| other.min(quota)));
        }
        if !folder.pop() {
            break;
        }
    }
    found
}

fn quota_version_2(folder: &Path) -> Option<f64> {
    parse_cpu_max(&fs::read_to_string(folder.join("cpu.max")).ok()?)
}

fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_version_1(folder: &Path) -> Option<f64> {
    let read = |name: &str| -> Option<f64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let quota = read("cpu.cfs_quota_us")?;
    (quota > 0.0).then_some(quota / read("cpu.cfs_period_us")?)
}

/// What competes for the processors while something is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// Share of the last 10 s in which some task waited for a CPU (`/proc/pressure/cpu`), 0 to 1;
    /// `null` where the kernel keeps no pressure figures.
    pub cpu_waiting_share: Option<f64>,
    /// CPU time that the hypervisor gave to somebody else since boot, in seconds.
    pub stolen_s: f64,
}

impl Pressure {
    /// Reads the pressure of this moment.
    pub fn read() -> Pressure {
        let pressure = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Pressure {
            cpu_waiting_share: parse_pressure(&pressure),
            stolen_s: parse_stolen_ticks(&stat).unwrap_or(0) as f64
                / rustix::param::clock_ticks_per_second() as f64,
        }
    }
}

fn parse_pressure(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some"))?;
    let field = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    Some(field.parse::<f64>().ok()? / 100.0)
}

fn parse_stolen_ticks(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    line.split_ascii_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_rounds_up_to_whole_cpus_and_never_to_none() {
        let mut machine = Machine::read();
        machine.affinity_cpus = 8;
        for (quota, usable) in [(None, 8), (Some(1.5), 2), (Some(0.2), 1), (Some(64.0), 8)] {
            machine.quota_cpus = quota;
            assert_eq!(machine.usable_cpus(), usable, "quota {quota:?}");
        }
    }

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(count_cpu_list("0-3,8"), Some(5));
        assert_eq!(count_cpu_list("0"), Some(1));
        assert_eq!(count_cpu_list("3-1"), None);
        assert_eq!(count_cpu_list(""), None);
    }

    #[test]
    fn version_2_quotas_are_read() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
    }

    #[test]
    fn pressure_and_steal_are_read() {
        let text = "some avg10=12.50 avg60=0.32 avg300=0.50 total=2909122\nfull avg10=0.00\n";
        assert_eq!(parse_pressure(text), Some(0.125));
        assert_eq!(parse_pressure(""), None);
        assert_eq!(parse_stolen_ticks("cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1\n"), Some(88));
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.online_cpus >= machine.affinity_cpus);
        assert!(machine.affinity_cpus >= 1);
        assert!(machine.memory_bytes > 1 << 20);
    }
}
