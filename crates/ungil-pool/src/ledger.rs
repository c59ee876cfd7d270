//! Every task of a pool that has not ended: what it is, where it is, and who waits for it.

use std::sync::Arc;

use crate::cell::Cell;
use crate::task::Task;

/// A task's number: its place in the ledger, and how often the place had been used before.
pub type Key = u64;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the backlog.
    Waiting,
    /// In this slot of this worker's task ring.
    Sent {
        /// The worker's index.
        worker: usize,
        /// The slot.
        slot: u32,
    },
}

/// A task that has not ended.
#[derive(Debug)]
pub struct Entry {
    /// What is to be run.
    pub task: Task,
    /// Where it is.
    pub place: Place,
    /// Where its outcome goes.
    pub cell: Arc<Cell>,
}

/// The tasks, by key.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<(u32, Option<Entry>)>,
    unused: Vec<u32>,
}

impl Ledger {
    /// Adds a task that waits.
    pub fn add(&mut self, task: Task) -> (Key, Arc<Cell>) {
        let index = self.unused.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            (self.entries.len() - 1) as u32
        });
        let (generation, entry) = &mut self.entries[index as usize];
        // Key 0 is left free for messages that concern no task.
        *generation = generation.wrapping_add(1).max(1);
        let key = u64::from(*generation) << 32 | u64::from(index);
        let cell = Arc::new(Cell::new(key));
        *entry = Some(Entry { task, place: Place::Waiting, cell: cell.clone() });
        (key, cell)
    }

    /// The task of a key; `None` if it has ended or never was.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let (generation, entry) = self.entries.get_mut(key as u32 as usize)?;
        if u64::from(*generation) == key >> 32 { entry.as_mut() } else { None }
    }

    /// Takes a task out.
    pub fn remove(&mut self, key: Key) -> Option<Entry> {
        let (generation, entry) = self.entries.get_mut(key as u32 as usize)?;
        if u64::from(*generation) != key >> 32 {
            return None;
        }
        let removed = entry.take()?;
        self.unused.push(key as u32);
        Some(removed)
    }

    /// Takes all tasks out.
    pub fn drain(&mut self) -> Vec<Entry> {
        let entries = self.entries.iter_mut().enumerate();
        let mut drained = Vec::new();
        for (index, (_, entry)) in entries {
            if let Some(entry) = entry.take() {
                self.unused.push(index as u32);
                drained.push(entry);
            }
        }
        drained
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.unused.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
