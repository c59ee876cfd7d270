use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const RESERVE_BYTES: u64 = 64 << 20;

fn arena() -> Arena {
    Arena::create(RESERVE_BYTES, 0).expect("a small arena can be made anywhere")
}

/// Blocks as the plainest bookkeeping knows them: where they begin, and how long they are.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<u64, u64>,
    stamps: BTreeMap<u64, u64>,
    next_stamp: u64,
}

impl Model {
    /// Notes a new block, and marks both its ends with a number of its own.
    fn add(&mut self, arena: &Arena, block: Block) {
        let end = block.offset + block.length;
        assert!(end <= arena.segment().size());
        if let Some((&before, &length)) = self.blocks.range(..=block.offset).next_back() {
            assert!(before + length <= block.offset, "{block:?} overlaps the one before");
        }
        if let Some((&after, _)) = self.blocks.range(block.offset..).next() {
            assert!(end <= after, "{block:?} overlaps the one behind");
        }
        self.next_stamp += 1;
        self.blocks.insert(block.offset, block.length);
        self.stamps.insert(block.offset, self.next_stamp);
        let stamp = self.next_stamp.to_ne_bytes();
        assert!(arena.segment().write(block.offset, &stamp));
        assert!(arena.segment().write(end - 8, &stamp));
    }

    fn nth(&self, index: prop::sample::Index) -> Option<u64> {
        let count = self.blocks.len();
        (count > 0).then(|| *self.blocks.keys().nth(index.index(count)).expect("it is less"))
    }

    /// Takes a block out, whose marks must still be there.
    fn remove(&mut self, arena: &Arena, offset: u64) {
        let length = self.blocks.remove(&offset).expect("the model chose it");
        let stamp = self.stamps.remove(&offset).expect("every block has one").to_ne_bytes();
        assert_eq!(arena.segment().read(offset, 8).as_deref(), Some(&stamp[..]));
        assert_eq!(arena.segment().read(offset + length - 8, 8).as_deref(), Some(&stamp[..]));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(u64),
    Free(prop::sample::Index),
    FreeTwice(prop::sample::Index),
    FreeAnything(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![
        6 => 0..2_000u64,
        3 => 2_000..=(64u64 << 10),
        2 => (64u64 << 10)..(2 << 20),
    ];
    let step = prop_oneof![
        5 => length.prop_map(Step::Allocate),
        4 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => any::<prop::sample::Index>().prop_map(Step::FreeTwice),
        1 => (0..RESERVE_BYTES).prop_map(Step::FreeAnything),
    ];
    proptest::collection::vec(step, 1..300)
}

fn assert_sums(arena: &Arena, model: &Model) {
    assert_eq!(arena.in_use_bytes(), model.blocks.values().sum::<u64>());
    assert_eq!(arena.in_use_bytes() + arena.free_bytes() + arena.punched_bytes(), used(arena));
}

/// Everything below the end, less the cuttings at the ends of runs.
fn used(arena: &Arena) -> u64 {
    let cuttings = |run: &Run| {
        let length = runs::run_bytes(run.class);
        length % runs::block_bytes(run.class)
    };
    arena.end - arena.runs.iter().flatten().map(cuttings).sum::<u64>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn blocks_never_overlap_and_keep_what_is_written(steps in steps()) {
        let mut arena = arena();
        // Low enough that holes are punched all the time.
        arena.trim_above_bytes = 1 << 20;
        arena.trim_to_bytes = 512 << 10;
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Allocate(length) => match arena.allocate(length) {
                    Ok(block) => {
                        prop_assert!(block.length >= length.max(1));
                        prop_assert_eq!(block.offset % 64, 0);
                        prop_assert_eq!(arena.length_of(block.offset), Some(block.length));
                        model.add(&arena, block);
                    }
                    Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::OutOfMemory),
                },
                Step::Free(index) => {
                    if let Some(offset) = model.nth(index) {
                        model.remove(&arena, offset);
                        prop_assert_eq!(arena.free(offset), Ok(()));
                    }
                }
                Step::FreeTwice(index) => {
                    if let Some(offset) = model.nth(index) {
                        model.remove(&arena, offset);
                        prop_assert_eq!(arena.free(offset), Ok(()));
                        prop_assert!(arena.free(offset).is_err());
                        prop_assert_eq!(arena.length_of(offset), None);
                    }
                }
                Step::FreeAnything(offset) => {
                    let known = model.blocks.contains_key(&offset);
                    prop_assert_eq!(arena.length_of(offset).is_some(), known);
                    if !known {
                        prop_assert!(arena.free(offset).is_err());
                    }
                }
            }
            let most = arena.trim_above_bytes + arena.kept_more_bytes;
            prop_assert!(arena.extents.warm_bytes() <= most.max(8 << 20));
            assert_sums(&arena, &model);
        }
        for offset in model.blocks.keys().copied().collect::<Vec<_>>() {
            model.remove(&arena, offset);
            prop_assert_eq!(arena.free(offset), Ok(()));
        }
        prop_assert_eq!(arena.in_use_bytes(), 0);
        assert_sums(&arena, &model);
    }
}

#[test]
fn any_number_is_refused_that_is_no_block() {
    let mut arena = arena();
    let small = arena.allocate(100).expect("there is room").offset;
    for offset in [1, small + 1, small + 64, small + 128, 1 << 40, u64::MAX - 1, u64::MAX] {
        assert!(arena.free(offset).is_err(), "{offset} is no block");
        assert_eq!(arena.length_of(offset), None);
    }
    assert_eq!(arena.free(small), Ok(()));
}

#[test]
fn the_last_block_that_came_back_is_the_next_one_out() {
    let mut arena = arena();
    let blocks: Vec<_> = (0..10).map(|_| arena.allocate(300).expect("there is room")).collect();
    arena.free(blocks[3].offset).expect("it is in use");
    arena.free(blocks[7].offset).expect("it is in use");
    assert_eq!(arena.allocate(300).expect("there is room"), blocks[7]);
    assert_eq!(arena.allocate(300).expect("there is room"), blocks[3]);
}

#[test]
fn a_length_beyond_the_address_space_is_an_error_and_changes_nothing() {
    let mut arena = arena();
    for length in [RESERVE_BYTES + 1, 1 << 50, i64::MAX as u64, u64::MAX] {
        assert!(arena.allocate(length).is_err());
    }
    assert_eq!(arena.in_use_bytes() + arena.free_bytes(), 0);
    let whole = arena.allocate(RESERVE_BYTES).expect("all of it is free");
    assert_eq!(whole, Block { offset: 0, length: RESERVE_BYTES });
    assert!(arena.allocate(1).is_err());
}

#[test]
fn free_memory_goes_back_to_the_system_and_comes_again() {
    let mut arena = Arena::create(1 << 30, 0).expect("a gibibyte of addresses is not much");
    let length = 48 << 20;
    let blocks: Vec<_> = (0..4).map(|_| arena.allocate(length).expect("memory")).collect();
    let backed = |arena: &Arena| {
        rustix::fs::fstat(arena.descriptor()).expect("it is open").st_blocks as u64 * 512
    };
    assert!(backed(&arena) >= 4 * length);
    for block in &blocks {
        arena.free(block.offset).expect("it is in use");
    }
    assert_eq!(arena.in_use_bytes(), 0);
    assert!(arena.free_bytes() <= TRIM_ABOVE_BYTES);
    assert!(arena.punched_bytes() >= 4 * length - TRIM_ABOVE_BYTES);
    assert!(backed(&arena) <= TRIM_ABOVE_BYTES);

    // All of it again in one piece, over warm and cold ground.
    let size = arena.segment().size();
    let whole = arena.allocate(4 * length).expect("it was granted once");
    assert_eq!(arena.segment().size(), size, "it need not have grown");
    assert!(backed(&arena) >= 4 * length);
    assert!(arena.segment().write(whole.offset + whole.length - 1, &[1]));
}

#[test]
fn memory_that_is_asked_for_again_and_again_is_kept_for_a_while() {
    let mut arena = Arena::create(1 << 30, 0).expect("a gibibyte of addresses is not much");
    arena.trim_above_bytes = 4 << 20;
    arena.trim_to_bytes = 3 << 20;
    let mut come_and_go = |length: u64| {
        let block = arena.allocate(length).expect("memory");
        arena.free(block.offset).expect("it is in use");
        arena.free_bytes()
    };
    assert!(come_and_go(20 << 20) <= 4 << 20, "nobody may want it again");
    let kept = come_and_go(20 << 20);
    assert!(kept >= 20 << 20, "somebody does");
    assert_eq!(come_and_go(20 << 20), kept, "and it is there");
    assert_eq!(come_and_go(1 << 20), kept);
    // But not without limit.
    for _ in 0..3 {
        let most = MOST_KEPT_MORE_BYTES + (4 << 20);
        assert!(come_and_go(most + (1 << 20)) <= most);
    }
}

#[test]
fn a_new_owner_leaves_the_header_alone() {
    let view = View::create(RESERVE_BYTES).expect("a small segment");
    let descriptor = view.descriptor().try_clone_to_owned().expect("a descriptor is free");
    let reserve = view.segment().reserve();
    let mut arena = Arena::open_as_owner(descriptor, reserve, 100).expect("nobody owns it");
    let block = arena.allocate(1000).expect("there is room");
    assert!(block.offset >= 100);
    assert!(arena.segment().write(block.offset, b"seen on the other side"));
    assert_eq!(view.segment().read(block.offset, 4).as_deref(), Some(&b"seen"[..]));
    assert!(view.slice(block.offset, block.length).is_some());
    assert!(view.slice(arena.segment().size(), 1).is_none());
    assert!(view.slice(u64::MAX, 1).is_none());
    assert!(view.slice(1, u64::MAX).is_none());
}

#[test]
fn a_place_in_memory_is_found_in_the_segment_that_has_it() {
    let mut arena = arena();
    let block = arena.allocate(1000).expect("there is room");
    let segment = arena.segment();
    let start = arena.slice(block.offset, 1000).expect("it is in use").as_ptr().cast_const();
    assert_eq!(segment.offset_of(start, 1000), Some(block.offset));
    assert_eq!(segment.offset_of(start.wrapping_add(7), 0), Some(block.offset + 7));
    let first = start.wrapping_sub(block.offset as usize);
    assert_eq!(segment.offset_of(first, RESERVE_BYTES as usize), Some(0));
    assert_eq!(segment.offset_of(first, RESERVE_BYTES as usize + 1), None);
    assert_eq!(segment.offset_of(first.wrapping_sub(1), 1), None);
    assert_eq!(segment.offset_of(first, usize::MAX), None);
    assert_eq!(segment.offset_of(std::ptr::null(), 0), None);

    assert!(segment.write(block.offset + 1, &7u64.to_ne_bytes()));
    assert_eq!(segment.word(block.offset + 1), Some(7));
    assert_eq!(segment.word(segment.size() - 7), None);
    assert_eq!(segment.word(u64::MAX), None);
}

#[test]
fn both_sides_hear_the_pool_bell() {
    let arena = Arena::create_pool(RESERVE_BYTES).expect("a small arena");
    let descriptor = arena.descriptor().try_clone_to_owned().expect("a descriptor is free");
    let view = View::open(descriptor, RESERVE_BYTES).expect("it is a segment");
    let (parent, worker) = (arena.pool_bell(), view.pool_bell());
    let (parent, worker) = (parent.expect("a header"), worker.expect("a header"));
    drop((arena, view));
    let ticket = parent.ticket();
    parent.arm(1);
    assert_eq!(worker.wanted(), 1);
    worker.ring();
    assert_ne!(parent.ticket(), ticket);
}

#[test]
fn an_arena_that_is_not_the_pools_has_no_bell() {
    assert!(arena().pool_bell().is_err());
    assert!(Arena::create(RESERVE_BYTES, 256).expect("a small arena").pool_bell().is_err());
}
