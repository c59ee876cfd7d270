use crate::segment::PAGE_BYTES;

/// The longest block that comes out of a run.
pub(crate) const LONGEST_SMALL_BYTES: u64 = 64 << 10;

/// The shortest run.
const RUN_BYTES: u64 = 64 << 10;

/// A run holds at least so many blocks.
const LEAST_BLOCKS: u64 = 4;

/// Multiples of 64 bytes up to 512.
const FINE_CLASSES: usize = 8;

/// Four to a doubling from there, so that at most a fifth of a block is wasted.
pub(crate) const CLASSES: usize = FINE_CLASSES + 7 * 4;

/// The place in no list.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The class of the shortest blocks that hold so many bytes.
#[inline]
pub(crate) fn class_of(length: u64) -> usize {
    let last = length.max(1) - 1;
    if last < 512 {
        return (last / 64) as usize;
    }
    let doubling = last.ilog2();
    let quarter = (last >> (doubling - 2)) & 3;
    FINE_CLASSES + (doubling as usize - 9) * 4 + quarter as usize
}

/// How long the blocks of a class are.
#[inline]
pub(crate) fn block_bytes(class: usize) -> u64 {
    if class < FINE_CLASSES {
        return (class as u64 + 1) * 64;
    }
    let coarse = class - FINE_CLASSES;
    let doubling = 512u64 << (coarse / 4);
    doubling + doubling / 4 * (coarse as u64 % 4 + 1)
}

/// How long the runs of a class are.
pub(crate) fn run_bytes(class: usize) -> u64 {
    (block_bytes(class) * LEAST_BLOCKS).next_multiple_of(PAGE_BYTES).max(RUN_BYTES)
}

/// A range of whole pages cut into blocks of one class.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) offset: u64,
    pub(crate) class: usize,
    /// Where this run stands in the list of its class's runs with room, or [`NOWHERE`].
    pub(crate) place: u32,
    used: u32,
    blocks: u32,
    /// Blocks from this one on have never been given out, so no list names them.
    fresh: u32,
    /// Blocks that came back, the last one on top, because its memory is warmest.
    returned: Vec<u16>,
    live: Vec<u64>,
}

impl Run {
    pub(crate) fn new(offset: u64, class: usize) -> Run {
        let blocks = (run_bytes(class) / block_bytes(class)) as u32;
        let live = vec![0; blocks.div_ceil(64) as usize];
        let returned = Vec::new();
        Run { offset, class, place: NOWHERE, used: 0, blocks, fresh: 0, returned, live }
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.used == self.blocks
    }

    #[inline]
    pub(crate) fn is_unused(&self) -> bool {
        self.used == 0
    }

    /// Bytes in blocks that nobody uses.
    #[inline]
    pub(crate) fn free_bytes(&self) -> u64 {
        u64::from(self.blocks - self.used) * block_bytes(self.class)
    }

    /// Gives a block out, unless the run is full.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u64> {
        let index = match self.returned.pop() {
            Some(index) => u32::from(index),
            None if self.fresh < self.blocks => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return None,
        };
        self.live[index as usize / 64] |= 1 << (index % 64);
        self.used += 1;
        Some(self.offset + u64::from(index) * block_bytes(self.class))
    }

    /// The number of the block that begins here and is given out.
    #[inline]
    pub(crate) fn live_block(&self, offset: u64) -> Option<u32> {
        let within = offset.checked_sub(self.offset)?;
        let bytes = block_bytes(self.class);
        let index = within / bytes;
        if within % bytes != 0 || index >= u64::from(self.blocks) {
            return None;
        }
        let live = self.live[index as usize / 64] & (1 << (index % 64)) != 0;
        live.then_some(index as u32)
    }

    /// Takes a block back that [`live_block`](Run::live_block) has found.
    #[inline]
    pub(crate) fn put(&mut self, index: u32) {
        self.live[index as usize / 64] &= !(1 << (index % 64));
        self.used -= 1;
        self.returned.push(index as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gets_the_shortest_class_that_holds_it() {
        for length in 0..=LONGEST_SMALL_BYTES {
            let class = class_of(length);
            assert!(class < CLASSES);
            assert!(block_bytes(class) >= length);
            assert_eq!(block_bytes(class) % 64, 0);
            assert!(class == 0 || block_bytes(class - 1) < length);
        }
        assert_eq!(block_bytes(CLASSES - 1), LONGEST_SMALL_BYTES);
    }

    #[test]
    fn a_block_number_fits_into_the_list_of_returned_blocks() {
        for class in 0..CLASSES {
            let blocks = run_bytes(class) / block_bytes(class);
            assert!((LEAST_BLOCKS..=u64::from(u16::MAX)).contains(&blocks));
        }
    }
}
