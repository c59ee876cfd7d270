//! A message about many items, of which the consumer does one after the other.
//!
//! While the consumer has such a message, the last words of its slot go on living. In one word lie
//! the next item and the limit: the consumer claims items by raising the one, the producer takes
//! items back by lowering the other, so each item is had by exactly one of them. In other words the
//! consumer says how many items it has finished and where the results lie, so that they can be read
//! also if it never comes to send them.
//!
//! ```text
//! range     WATCHED | limit (31 bits) | next (32 bits)      both sides
//! progress  first (32 bits) | done (32 bits)                consumer: items of the log, and behind it
//! offset    where the log lies                              consumer, before `first` changes
//! bytes     how long it is                                  consumer, before `done` changes
//! ```

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::ring::{INLINE_BYTES, INLINE_WORDS, Slot};
use crate::shared::Shared;

/// Bytes beside its words that a message about items may carry besides.
pub const SPAN_INLINE_BYTES: usize = INLINE_BYTES - 8 * WORDS;

/// The most items of one message.
pub const ITEMS_MAX: u32 = (1 << 31) - 1;

const WORDS: usize = 4;
const OFFSET: usize = INLINE_WORDS - 4;
const BYTES: usize = INLINE_WORDS - 3;
const PROGRESS: usize = INLINE_WORDS - 2;
const RANGE: usize = INLINE_WORDS - 1;

/// Somebody waits for what is finished, also if more is to come.
const WATCHED: u64 = 1 << 63;

/// The bytes of a message about so many items, of which none has begun.
///
/// # Returns
/// `None` if there are too many items, or more than [`SPAN_INLINE_BYTES`] bytes.
pub fn inline(bytes: &[u8], count: u32, is_watched: bool) -> Option<[u8; INLINE_BYTES]> {
    if count > ITEMS_MAX {
        return None;
    }
    let mut inline = [0; INLINE_BYTES];
    inline[..SPAN_INLINE_BYTES].get_mut(..bytes.len())?.copy_from_slice(bytes);
    let range = u64::from(count) << 32 | if is_watched { WATCHED } else { 0 };
    inline[8 * RANGE..].copy_from_slice(&range.to_ne_bytes());
    Some(inline)
}

/// What a consumer has said of its progress. It may have written any numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The first item whose result is in the log.
    pub first: u32,
    /// So many items are finished.
    pub done: u32,
    /// Where the log begins in the consumer's memory.
    pub offset: u64,
    /// How many bytes of the log are written.
    pub bytes: u64,
}

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The item; `None` if there is none left.
    pub item: Option<u32>,
    /// Somebody waits for what is finished: it should be sent before the item is begun.
    pub is_watched: bool,
}

/// A slot whose message is about items.
#[derive(Clone)]
pub struct Span {
    slots: Shared<[Slot]>,
    index: usize,
}

impl Span {
    pub(crate) fn new(slots: Shared<[Slot]>, index: u32) -> Option<Span> {
        let index = index as usize;
        (index < slots.len()).then_some(Span { slots, index })
    }

    #[inline]
    fn word(&self, number: usize) -> &AtomicU64 {
        &self.slots[self.index].inline[number]
    }

    /// Consumer: takes the next item.
    #[inline]
    pub fn claim(&self) -> Claim {
        // Release, for the results finished before: who watches from now on finds them. That the
        // other side may lower the limit needs no order: which came first, this word tells.
        let range = self.word(RANGE).fetch_add(1, Ordering::Release);
        let (limit, next) = split(range);
        Claim { item: (next < limit).then_some(next), is_watched: range & WATCHED != 0 }
    }

    /// Consumer: takes the wish back, before it sends what is finished.
    pub fn unwatch(&self) {
        self.word(RANGE).fetch_and(!WATCHED, Ordering::Relaxed);
    }

    /// Consumer: results from this item on lie there. Those before must have been sent.
    pub fn begin_log(&self, first: u32, offset: u64) {
        // The memory may have been another log's. Whoever still reads that, and finds something of
        // this one, finds after it that the results before were sent.
        fence(Ordering::Release);
        // Release, all of them: who sees any of it sees the same.
        self.word(OFFSET).store(offset, Ordering::Release);
        self.word(BYTES).store(0, Ordering::Release);
        self.word(PROGRESS).store(join(first, first), Ordering::Release);
    }

    /// Consumer: so many items are finished, and their results written.
    #[inline]
    pub fn commit(&self, first: u32, done: u32, bytes: u64) {
        self.word(BYTES).store(bytes, Ordering::Release);
        // Release: who sees that an item is finished sees its result.
        self.word(PROGRESS).store(join(first, done), Ordering::Release);
    }

    /// Producer: the limit and the item that is claimed next, which may be behind it.
    pub fn range(&self) -> (u32, u32) {
        split(self.word(RANGE).load(Ordering::Acquire))
    }

    /// Producer: asks that what is finished be sent before another item is begun.
    pub fn watch(&self) {
        // Acquire, with the release of claims: what was finished before the last of them is seen.
        self.word(RANGE).fetch_or(WATCHED, Ordering::Acquire);
    }

    /// Producer: takes items back.
    ///
    /// # Arguments
    /// * `keep` - how many of so many unclaimed items are left to the consumer.
    ///
    /// # Returns
    /// The limit before and now; `None` if there was none to be taken.
    pub fn cut(&self, keep: impl Fn(u32) -> u32) -> Option<(u32, u32)> {
        let mut range = self.word(RANGE).load(Ordering::Relaxed);
        loop {
            let (limit, next) = split(range);
            let unclaimed = limit.checked_sub(next).filter(|unclaimed| *unclaimed > 0)?;
            let kept = keep(unclaimed).min(unclaimed);
            if kept == unclaimed {
                return None;
            }
            let now = next + kept;
            let cut = u64::from(now) << 32 | u64::from(next) | range & WATCHED;
            match self.word(RANGE).compare_exchange(
                range,
                cut,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some((limit, now)),
                Err(other) => range = other,
            }
        }
    }

    /// Producer: how far the consumer has come.
    ///
    /// A living consumer may be beginning another log, and then this is of both, and so may be
    /// what is read where the log lies. It has sent the results of the first one before that: so
    /// who [has read](Span::has_read) and finds results *after* that drops what he read.
    pub fn progress(&self) -> Progress {
        let progress = self.word(PROGRESS).load(Ordering::Acquire);
        let offset = self.word(OFFSET).load(Ordering::Acquire);
        let bytes = self.word(BYTES).load(Ordering::Acquire);
        Progress { first: (progress >> 32) as u32, done: progress as u32, offset, bytes }
    }

    /// Producer: comes between the reading of a living consumer's log and the look for results.
    pub fn has_read(&self) {
        fence(Ordering::Acquire);
    }
}

#[inline]
fn split(range: u64) -> (u32, u32) {
    (((range & !WATCHED) >> 32) as u32, range as u32)
}

#[inline]
fn join(first: u32, done: u32) -> u64 {
    u64::from(first) << 32 | u64::from(done)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Claim, ITEMS_MAX, Progress, SPAN_INLINE_BYTES, Span, inline};
    use crate::ring::{self, Message};

    fn span(count: u32) -> (Span, Span) {
        let (mut producer, mut consumer) = ring::private(2);
        let bytes = inline(b"described", count, false).expect("it fits");
        let message = Message::new([1; 6], &bytes).expect("it fits");
        let slot = producer.push(&message).expect("sound").expect("room");
        let (taken, message) = consumer.take().expect("sound").expect("it was pushed");
        assert!(message.inline().starts_with(b"described"));
        (producer.span(slot).expect("it is a slot"), consumer.span(taken).expect("it is a slot"))
    }

    fn claimed(span: &Span) -> Vec<u32> {
        std::iter::from_fn(|| span.claim().item).collect()
    }

    #[test]
    fn items_are_claimed_in_order_and_no_more_than_there_are() {
        let (_, consumer) = span(3);
        assert_eq!(claimed(&consumer), [0, 1, 2]);
        assert_eq!(consumer.claim(), Claim { item: None, is_watched: false });
        let (_, consumer) = span(0);
        assert_eq!(claimed(&consumer), [0; 0]);
    }

    #[test]
    fn what_is_taken_back_is_not_claimed() {
        let (producer, consumer) = span(10);
        assert_eq!(consumer.claim().item, Some(0));
        assert_eq!(producer.range(), (10, 1));
        assert_eq!(producer.cut(|unclaimed| unclaimed / 2), Some((10, 5)));
        assert_eq!(producer.cut(|unclaimed| unclaimed), None);
        assert_eq!(producer.cut(|_| u32::MAX), None, "no item is made up");
        assert_eq!(claimed(&consumer), [1, 2, 3, 4]);
        assert_eq!(producer.cut(|_| 0), None, "it is over");
    }

    #[test]
    fn a_wish_is_heard_with_the_next_claim_until_it_is_taken_back() {
        let (producer, consumer) = span(ITEMS_MAX);
        producer.watch();
        assert_eq!(consumer.claim(), Claim { item: Some(0), is_watched: true });
        assert_eq!(producer.cut(|_| 2), Some((ITEMS_MAX, 3)));
        assert!(consumer.claim().is_watched, "a cut leaves it");
        consumer.unwatch();
        assert_eq!(consumer.claim(), Claim { item: Some(2), is_watched: false });
        assert_eq!(consumer.claim(), Claim { item: None, is_watched: false });
    }

    #[test]
    fn a_message_may_be_watched_from_its_beginning() {
        let (mut producer, mut consumer) = ring::private(1);
        let bytes = inline(b"", 1, true).expect("it fits");
        producer.push(&Message::new([1; 6], &bytes).expect("it fits")).expect("sound");
        let (slot, _) = consumer.take().expect("sound").expect("it was pushed");
        let claim = consumer.span(slot).expect("a slot").claim();
        assert_eq!(claim, Claim { item: Some(0), is_watched: true });
    }

    #[test]
    fn progress_is_what_the_consumer_said_last() {
        let (producer, consumer) = span(9);
        let none = Progress { first: 0, done: 0, offset: 0, bytes: 0 };
        assert_eq!(producer.progress(), none);
        consumer.begin_log(0, 640);
        consumer.commit(0, 3, 77);
        assert_eq!(producer.progress(), Progress { first: 0, done: 3, offset: 640, bytes: 77 });
        consumer.begin_log(3, 64);
        assert_eq!(producer.progress(), Progress { first: 3, done: 3, offset: 64, bytes: 0 });
    }

    #[test]
    fn what_has_no_room_is_refused() {
        assert!(inline(&[0; SPAN_INLINE_BYTES], 1, false).is_some());
        assert!(inline(&[0; SPAN_INLINE_BYTES + 1], 1, false).is_none());
        assert!(inline(b"", ITEMS_MAX + 1, false).is_none());
        let (producer, consumer) = ring::private(2);
        assert!(producer.span(2).is_none() && consumer.span(2).is_none());
    }
}
