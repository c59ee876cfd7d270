use std::collections::{BTreeMap, BTreeSet};

/// Whether memory backs a range, or must be asked for before the range is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warmth {
    Warm,
    Cold,
}

use Warmth::{Cold, Warm};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) warmth: Warmth,
}

impl Extent {
    fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// The free ranges of an arena. Neighbours of the same warmth are always one extent.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    by_offset: BTreeMap<u64, (u64, Warmth)>,
    /// Warm extents as (length, offset); the first that is long enough fits best.
    warm_by_length: BTreeSet<(u64, u64)>,
    warm_bytes: u64,
    cold_bytes: u64,
}

impl Extents {
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm_bytes
    }

    pub(crate) fn cold_bytes(&self) -> u64 {
        self.cold_bytes
    }

    /// Adds a range, which must not overlap any other.
    pub(crate) fn insert(&mut self, mut extent: Extent) {
        if extent.length == 0 {
            return;
        }
        let before = self.by_offset.range(..extent.offset).next_back().map(of_entry);
        let after = self.by_offset.range(extent.offset..).next().map(of_entry);
        debug_assert!(before.is_none_or(|before| before.end() <= extent.offset));
        debug_assert!(after.is_none_or(|after| extent.end() <= after.offset));
        if let Some(before) = before
            && before.end() == extent.offset
            && before.warmth == extent.warmth
        {
            self.remove(before);
            extent.offset = before.offset;
            extent.length += before.length;
        }
        if let Some(after) = after
            && after.offset == extent.end()
            && after.warmth == extent.warmth
        {
            self.remove(after);
            extent.length += after.length;
        }
        self.add(extent);
    }

    /// The warm extent that fits best.
    pub(crate) fn best_fit(&self, length: u64) -> Option<Extent> {
        let &(length, offset) = self.warm_by_length.range((length, 0)..).next()?;
        Some(Extent { offset, length, warmth: Warm })
    }

    /// The longest warm extent.
    pub(crate) fn longest_warm(&self) -> Option<Extent> {
        let &(length, offset) = self.warm_by_length.last()?;
        Some(Extent { offset, length, warmth: Warm })
    }

    /// The beginning of the first row of neighbours, warm or cold, that is long enough in all.
    pub(crate) fn first_row(&self, length: u64) -> Option<u64> {
        let mut begin = 0;
        let mut end = 0;
        for extent in self.by_offset.iter().map(of_entry) {
            if extent.offset != end {
                begin = extent.offset;
            }
            end = extent.end();
            if end - begin >= length {
                return Some(begin);
            }
        }
        None
    }

    /// The beginning of the row of neighbours that ends here, which is `end` if nothing does.
    pub(crate) fn row_before(&self, end: u64) -> u64 {
        let mut begin = end;
        for extent in self.by_offset.range(..end).rev().map(of_entry) {
            if extent.end() != begin {
                break;
            }
            begin = extent.offset;
        }
        begin
    }

    /// The extents that make up the first so many bytes of a row, the last one cut to measure.
    pub(crate) fn pieces(&self, begin: u64, length: u64) -> Vec<Extent> {
        let end = begin + length;
        let mut pieces = Vec::new();
        for mut extent in self.by_offset.range(begin..end).map(of_entry) {
            extent.length = extent.length.min(end - extent.offset);
            pieces.push(extent);
        }
        pieces
    }

    /// Takes the beginning of an extent away; `piece` is what [`pieces`](Extents::pieces) said.
    pub(crate) fn take(&mut self, piece: Extent) {
        let Some(&(length, warmth)) = self.by_offset.get(&piece.offset) else { return };
        let whole = Extent { offset: piece.offset, length, warmth };
        self.remove(whole);
        if length > piece.length {
            self.add(Extent { offset: piece.end(), length: length - piece.length, warmth });
        }
    }

    /// Makes the last bytes of a warm extent cold.
    pub(crate) fn cool(&mut self, extent: Extent, length: u64) {
        self.remove(extent);
        let kept = extent.length - length;
        self.insert(Extent { length: kept, ..extent });
        self.insert(Extent { offset: extent.offset + kept, length, warmth: Cold });
    }

    fn add(&mut self, extent: Extent) {
        self.by_offset.insert(extent.offset, (extent.length, extent.warmth));
        match extent.warmth {
            Warm => {
                self.warm_by_length.insert((extent.length, extent.offset));
                self.warm_bytes += extent.length;
            }
            Cold => self.cold_bytes += extent.length,
        }
    }

    fn remove(&mut self, extent: Extent) {
        self.by_offset.remove(&extent.offset);
        match extent.warmth {
            Warm => {
                self.warm_by_length.remove(&(extent.length, extent.offset));
                self.warm_bytes -= extent.length;
            }
            Cold => self.cold_bytes -= extent.length,
        }
    }

    /// Every extent, in order.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Extent> {
        self.by_offset.iter().map(of_entry).collect()
    }
}

fn of_entry((&offset, &(length, warmth)): (&u64, &(u64, Warmth))) -> Extent {
    Extent { offset, length, warmth }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: usize = 64;

    /// What each page is: `None` where it is not free.
    type Pages = [Option<Warmth>; PAGES];

    #[derive(Debug, Clone)]
    enum Step {
        Insert { offset: usize, length: usize, warm: bool },
        TakeBest { length: usize },
        TakeRow { length: usize },
        Cool { length: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let length = 1..=12usize;
        let step = prop_oneof![
            3 => (0..PAGES, length.clone(), any::<bool>())
                .prop_map(|(offset, length, warm)| Step::Insert { offset, length, warm }),
            1 => length.clone().prop_map(|length| Step::TakeBest { length }),
            1 => length.clone().prop_map(|length| Step::TakeRow { length }),
            1 => length.prop_map(|length| Step::Cool { length }),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// The extents that the pages come to, merged by the plainest means.
    fn merged(pages: &Pages) -> Vec<Extent> {
        let mut all = Vec::<Extent>::new();
        for (page, warmth) in pages.iter().enumerate() {
            let Some(warmth) = *warmth else { continue };
            match all.last_mut() {
                Some(last) if last.end() == page as u64 && last.warmth == warmth => {
                    last.length += 1;
                }
                _ => all.push(Extent { offset: page as u64, length: 1, warmth }),
            }
        }
        all
    }

    fn take(extents: &mut Extents, pages: &mut Pages, begin: u64, length: usize) {
        let pieces = extents.pieces(begin, length as u64);
        assert_eq!(pieces.iter().map(|piece| piece.length).sum::<u64>(), length as u64);
        for piece in pieces {
            for page in piece.offset..piece.end() {
                assert_eq!(pages[page as usize].take(), Some(piece.warmth));
            }
            extents.take(piece);
        }
    }

    fn longest_row(pages: &Pages) -> usize {
        pages.split(Option::is_none).map(<[_]>::len).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn extents_are_what_the_pages_say(steps in steps()) {
            let mut extents = Extents::default();
            let mut pages: Pages = [None; PAGES];
            for step in steps {
                match step {
                    Step::Insert { offset, length, warm } => {
                        let end = (offset + length).min(PAGES);
                        if pages[offset..end].iter().all(Option::is_none) {
                            let warmth = if warm { Warm } else { Cold };
                            let length = (end - offset) as u64;
                            extents.insert(Extent { offset: offset as u64, length, warmth });
                            pages[offset..end].fill(Some(warmth));
                        }
                    }
                    Step::TakeBest { length } => {
                        let warm = merged(&pages).into_iter().filter(|one| one.warmth == Warm);
                        let best = warm.filter(|one| one.length >= length as u64);
                        let best = best.min_by_key(|one| (one.length, one.offset));
                        prop_assert_eq!(extents.best_fit(length as u64), best);
                        if let Some(best) = best {
                            take(&mut extents, &mut pages, best.offset, length);
                        }
                    }
                    Step::TakeRow { length } => {
                        let row = extents.first_row(length as u64);
                        prop_assert_eq!(row.is_some(), longest_row(&pages) >= length);
                        if let Some(begin) = row {
                            take(&mut extents, &mut pages, begin, length);
                        }
                    }
                    Step::Cool { length } => {
                        if let Some(longest) = extents.longest_warm() {
                            let length = (length as u64).min(longest.length);
                            extents.cool(longest, length);
                            let end = longest.end() as usize;
                            pages[end - length as usize..end].fill(Some(Cold));
                        }
                    }
                }
                let all = merged(&pages);
                prop_assert_eq!(extents.all(), all.clone());
                let bytes = |warmth| -> u64 {
                    all.iter().filter(|one| one.warmth == warmth).map(|one| one.length).sum()
                };
                prop_assert_eq!(extents.warm_bytes(), bytes(Warm));
                prop_assert_eq!(extents.cold_bytes(), bytes(Cold));
                let tail = pages.iter().rev().take_while(|page| page.is_some()).count();
                prop_assert_eq!(extents.row_before(PAGES as u64), (PAGES - tail) as u64);
            }
        }
    }
}
