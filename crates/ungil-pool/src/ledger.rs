//! Every task of a pool that has not ended: what it is, where it is, and who waits for it.

use std::sync::Arc;

use crate::cell::Cell;
use crate::items::{Items, Results};
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

/// What is to be run, and where its outcome goes.
#[derive(Debug)]
pub enum Work {
    /// One call.
    Call {
        /// What is to be called.
        task: Task,
        /// Where its outcome goes.
        cell: Arc<Cell>,
    },
    /// Some of a batch's items, one call each.
    Chunk(Chunk),
}

/// Items of a batch that follow one another.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The batch's items.
    pub items: Arc<Items>,
    /// Where outcomes go.
    pub results: Arc<Results>,
    /// The first item's number in the batch.
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// So many of them have ended.
    pub ended: u32,
}

/// A task that has not ended.
#[derive(Debug)]
pub struct Entry {
    /// What is to be run.
    pub work: Work,
    /// Where it is.
    pub place: Place,
}

impl Entry {
    /// The items, if it is about items.
    pub fn chunk(&mut self) -> Option<&mut Chunk> {
        match &mut self.work {
            Work::Chunk(chunk) => Some(chunk),
            Work::Call { .. } => None,
        }
    }

    /// The call, if it is one.
    pub fn task(&mut self) -> Option<&mut Task> {
        match &mut self.work {
            Work::Call { task, .. } => Some(task),
            Work::Chunk(_) => None,
        }
    }
}

/// The tasks, by key.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<(u32, Option<Entry>)>,
    unused: Vec<u32>,
    chunks: usize,
}

impl Ledger {
    /// Adds a task that waits.
    pub fn add(&mut self, task: Task) -> (Key, Arc<Cell>) {
        let (key, place) = self.place();
        let cell = Arc::new(Cell::new(key));
        let work = Work::Call { task, cell: cell.clone() };
        *place = Some(Entry { work, place: Place::Waiting });
        (key, cell)
    }

    /// Adds items that wait.
    pub fn add_chunk(&mut self, chunk: Chunk) -> Key {
        self.chunks += 1;
        let (key, place) = self.place();
        *place = Some(Entry { work: Work::Chunk(chunk), place: Place::Waiting });
        key
    }

    fn place(&mut self) -> (Key, &mut Option<Entry>) {
        let index = self.unused.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            (self.entries.len() - 1) as u32
        });
        let (generation, entry) = &mut self.entries[index as usize];
        // Key 0 is left free for messages that concern no task.
        *generation = generation.wrapping_add(1).max(1);
        (u64::from(*generation) << 32 | u64::from(index), entry)
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
        let mut removed = entry.take()?;
        self.unused.push(key as u32);
        self.chunks -= usize::from(removed.chunk().is_some());
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
        self.chunks = 0;
        drained
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.unused.len()
    }

    /// How many of them are about items.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::{Entry, Key, Ledger, Place, Work};
    use crate::payload::{Inline, Payload};
    use crate::task::Task;

    fn task() -> Task {
        Task { function: None, payload: Payload::Inline(Inline::empty()) }
    }

    fn key_of(entry: &Entry) -> Key {
        match &entry.work {
            Work::Call { cell, .. } => cell.key(),
            Work::Chunk(_) => panic!("no items were added"),
        }
    }

    #[test]
    fn a_key_is_good_until_its_task_is_taken_out() {
        let mut ledger = Ledger::default();
        let (first, cell) = ledger.add(task());
        assert_eq!(cell.key(), first);
        assert_eq!(ledger.get_mut(first).map(|it| it.place), Some(Place::Waiting));
        assert!(ledger.remove(first).is_some());
        assert!(ledger.remove(first).is_none());
        let (second, _) = ledger.add(task());
        assert_ne!(first, second);
        assert_eq!(first as u32, second as u32, "the place is used again");
        assert!(ledger.get_mut(first).is_none());
        assert!(ledger.remove(first).is_none());
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn no_task_has_key_zero_even_when_generations_begin_anew() {
        let mut ledger = Ledger::default();
        assert!(ledger.get_mut(0).is_none());
        let (key, _) = ledger.add(task());
        ledger.remove(key);
        ledger.entries[0].0 = u32::MAX;
        let (key, _) = ledger.add(task());
        assert_eq!(key, 1 << 32);
        assert!(ledger.get_mut(0).is_none());
        assert!(ledger.get_mut(u64::MAX).is_none());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add,
        Remove(usize),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => Just(Step::Add),
            5 => any::<usize>().prop_map(Step::Remove),
            1 => Just(Step::Drain),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn it_is_a_map_whose_keys_are_never_used_twice(steps in steps()) {
            let mut ledger = Ledger::default();
            let mut model = HashMap::new();
            let mut ever: Vec<Key> = Vec::new();
            for step in steps {
                match step {
                    Step::Add => {
                        let (key, cell) = ledger.add(task());
                        ever.push(key);
                        model.insert(key, cell);
                    }
                    Step::Remove(which) if !ever.is_empty() => {
                        let key = ever[which % ever.len()];
                        let removed = ledger.remove(key).map(|entry| key_of(&entry));
                        prop_assert_eq!(removed, model.remove(&key).map(|cell| cell.key()));
                    }
                    Step::Remove(_) => {}
                    Step::Drain => {
                        let drained: HashSet<Key> =
                            ledger.drain().iter().map(key_of).collect();
                        prop_assert_eq!(drained, model.drain().map(|(key, _)| key).collect());
                    }
                }
                prop_assert_eq!(ledger.len(), model.len());
                prop_assert_eq!(ledger.is_empty(), model.is_empty());
                for key in &ever {
                    prop_assert_eq!(ledger.get_mut(*key).is_some(), model.contains_key(key));
                }
            }
            prop_assert_eq!(ever.iter().collect::<HashSet<_>>().len(), ever.len());
            prop_assert!(!ever.contains(&0));
        }
    }
}
