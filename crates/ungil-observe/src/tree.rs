//! A process and all its descendants, summed.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::process::{self, Pid, Stat};

/// Processes that belong together, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    members: Vec<Stat>,
}

impl Tree {
    /// All descendants of `root`, without `root` itself.
    pub fn below(root: Pid) -> Tree {
        Tree { members: descendants(root, &all_processes()) }
    }

    /// All processes of a session but its leader, wherever they are in the tree by now.
    pub fn of_session(leader: Pid) -> Tree {
        let mut members = all_processes();
        members.retain(|stat| stat.session == leader && stat.pid != leader);
        Tree { members }
    }

    /// Processes in the tree that have not ended.
    pub fn pids(&self) -> Vec<Pid> {
        self.members.iter().filter(|stat| !stat.is_zombie).map(|stat| stat.pid).collect()
    }

    /// CPU time of all members but `reader`, and of the children that any of them has reaped.
    ///
    /// Living processes are read to the nanosecond; ended and reaped ones in clock ticks (10 ms).
    /// The process that reads leaves itself out, because reading takes CPU time of its own.
    pub fn cpu_time_without(&self, reader: Pid) -> Duration {
        self.members
            .iter()
            .map(|stat| {
                let own = Some(stat.pid).filter(|pid| *pid != reader).and_then(process::cpu_time);
                own.unwrap_or_default() + stat.reaped_children_cpu
            })
            .sum()
    }

    /// Proportional set size of all members together, in bytes.
    pub fn proportional_set_size_bytes(&self) -> u64 {
        self.pids().into_iter().filter_map(process::proportional_set_size_bytes).sum()
    }
}

fn all_processes() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(process::stat)
        .collect()
}

/// Follows the parent links downwards, so that a list in any order gives the same answer.
fn descendants(root: Pid, processes: &[Stat]) -> Vec<Stat> {
    let mut children: HashMap<Pid, Vec<Stat>> = HashMap::new();
    for stat in processes {
        children.entry(stat.parent).or_default().push(*stat);
    }
    let mut found = Vec::new();
    let mut unvisited = vec![root];
    while let Some(parent) = unvisited.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            unvisited.push(child.pid);
            found.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn entry(pid: Pid, parent: Pid) -> Stat {
        Stat { pid, parent, session: 1, is_zombie: false, reaped_children_cpu: Duration::ZERO }
    }

    #[test]
    fn grandchildren_belong_to_the_tree_and_siblings_do_not() {
        let processes = [entry(9, 7), entry(5, 1), entry(7, 5), entry(6, 1), entry(8, 6)];
        let mut pids: Vec<Pid> = descendants(5, &processes).iter().map(|stat| stat.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [7, 9]);
    }

    #[test]
    fn a_process_that_is_its_own_parent_ends_the_walk() {
        assert_eq!(descendants(0, &[entry(0, 0), entry(1, 0)]).len(), 2);
    }

    #[test]
    fn a_living_child_is_seen_with_its_memory() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let tree = Tree::below(std::process::id() as Pid);
        assert!(tree.pids().contains(&(child.id() as Pid)));
        assert!(tree.proportional_set_size_bytes() > 0);
        child.stdin.take().unwrap().flush().unwrap();
        child.wait().unwrap();
    }
}
