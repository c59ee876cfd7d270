//! What is to be run: a function and what it is called with, both as bytes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ungil_shm::{Arena, Block};

use crate::fork::Origin;
use crate::payload::Payload;

/// A task.
#[derive(Debug)]
pub struct Task {
    /// The function; `None` if the payload says it itself.
    pub function: Option<Arc<Function>>,
    /// What it is called with.
    pub payload: Payload,
}

/// A function that many tasks call: written into the pool's arena once, read by each worker once.
#[derive(Debug)]
pub struct Function {
    number: u64,
    block: StoredBlock,
}

impl Function {
    pub(crate) fn new(number: u64, block: StoredBlock) -> Function {
        Function { number, block }
    }

    /// Its number in the pool, never used twice.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn block(&self) -> Block {
        self.block.block()
    }
}

/// A block of the pool's arena, freed when it is dropped: for what stays there until no task
/// refers to it any more.
#[derive(Debug)]
pub struct StoredBlock {
    block: Block,
    arena: Arc<Mutex<Arena>>,
    origin: Origin,
}

impl StoredBlock {
    /// A block of at least so many bytes.
    pub(crate) fn allocate(arena: &Arc<Mutex<Arena>>, length: u64) -> io::Result<StoredBlock> {
        let block = arena.lock().unwrap_or_else(PoisonError::into_inner).allocate(length)?;
        Ok(StoredBlock::of(arena, block))
    }

    /// A block that was allocated there.
    pub(crate) fn of(arena: &Arc<Mutex<Arena>>, block: Block) -> StoredBlock {
        StoredBlock { block, arena: arena.clone(), origin: Origin::here() }
    }

    pub(crate) fn block(&self) -> Block {
        self.block
    }
}

impl Drop for StoredBlock {
    fn drop(&mut self) {
        if self.origin.is_here() {
            let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
            // It was allocated there; nobody else frees it.
            let _ = arena.free(self.block.offset);
        }
    }
}
