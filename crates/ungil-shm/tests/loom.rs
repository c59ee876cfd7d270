//! Models of the ring and the doorbell, which try the orders of events that the memory model
//! allows. The README says how to run them, and what they cannot see.
#![cfg(loom)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use loom::thread;
use ungil_shm::primitive::{AtomicU32, Ordering};
use ungil_shm::ring::{self, Consumer, Message, Producer};
use ungil_shm::span::{self, Span};
use ungil_shm::{Doorbell, SlotState, Wish, offsets};

/// Runs two sides at once, one of them in a thread of its own, and returns what both come to.
fn together<One, Other>(
    turned: bool,
    one: impl FnOnce() -> One + 'static,
    other: impl FnOnce() -> Other + 'static,
) -> (One, Other)
where
    One: 'static,
    Other: 'static,
{
    if turned {
        let one = thread::spawn(one);
        let other = other();
        (one.join().expect("no side panics"), other)
    } else {
        let other = thread::spawn(other);
        let one = one();
        (one, other.join().expect("no side panics"))
    }
}

/// Tries all orders in which a thread is interrupted up to so many times, and returns every
/// outcome, so that a test can tell that the interesting ones did come about.
///
/// Each model runs twice, with the sides' threads exchanged, because the bound on interruptions
/// makes it matter which one runs first.
fn model<T: Ord + Send + 'static>(
    interruptions: usize,
    body: impl Fn(bool) -> T + Sync + Send + 'static,
) -> BTreeSet<T> {
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let body = Arc::new(body);
    for turned in [false, true] {
        let (outcomes, body) = (Arc::clone(&outcomes), Arc::clone(&body));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(interruptions);
        builder.check(move || {
            let outcome = body(turned);
            outcomes.lock().expect("nobody panics with it").insert(outcome);
        });
    }
    std::mem::take(&mut *outcomes.lock().expect("nobody panics with it"))
}

/// A message whose every part tells which one it is, so that a torn one is seen.
fn numbered(number: u64) -> Message {
    Message::new([number; 6], &[number as u8; 16]).expect("sixteen bytes fit")
}

fn number_of(message: &Message) -> u64 {
    let number = message.words[0];
    assert_eq!(*message, numbered(number), "a message is seen whole");
    number
}

fn push(producer: &mut Producer, number: u64) -> Option<u32> {
    producer.push(&numbered(number)).expect("nobody corrupts it")
}

/// Takes and releases one message, if there is one.
fn take(consumer: &mut Consumer) -> Option<u64> {
    let (index, message) = consumer.take().expect("nobody corrupts it")?;
    consumer.release(index);
    Some(number_of(&message))
}

#[test]
fn a_message_is_either_taken_or_revoked() {
    let outcomes = model(3, |turned| {
        let (mut producer, mut consumer) = ring::private(2);
        let parent = move || {
            let first = push(&mut producer, 1).expect("room");
            let second = push(&mut producer, 2).expect("room");
            let revoked = [producer.revoke(first), producer.revoke(second)];
            (producer, revoked)
        };
        let worker = move || {
            let seen: Vec<u64> = (0..2).filter_map(|_| take(&mut consumer)).collect();
            (consumer, seen)
        };
        let ((producer, revoked), (mut consumer, mut seen)) = together(turned, parent, worker);
        // What the worker had not come to is still there for whoever looks later.
        seen.extend(std::iter::from_fn(|| take(&mut consumer)));
        let kept = |number: &u64| !revoked[*number as usize - 1];
        let expected: Vec<u64> = [1, 2].into_iter().filter(kept).collect();
        assert_eq!(seen, expected, "each is seen once, in order, unless it was revoked");
        assert_eq!(producer.state(0), Ok(SlotState::Empty));
        assert_eq!(producer.state(1), Ok(SlotState::Empty));
        revoked
    });
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_slot_that_is_used_again_holds_the_new_message() {
    let outcomes = model(4, |turned| {
        let (mut producer, mut consumer) = ring::private(1);
        let parent = move || {
            let first = push(&mut producer, 1).is_some();
            let second = push(&mut producer, 2);
            let revoked = second.is_some_and(|index| producer.revoke(index));
            let third = push(&mut producer, 3).is_some();
            (first, second.is_some() && !revoked, third)
        };
        let worker = move || {
            let seen: Vec<u64> = (0..3).filter_map(|_| take(&mut consumer)).collect();
            (consumer, seen)
        };
        let (pushed, (mut consumer, mut seen)) = together(turned, parent, worker);
        seen.extend(std::iter::from_fn(|| take(&mut consumer)));
        let pushed = [(1, pushed.0), (2, pushed.1), (3, pushed.2)];
        let expected: Vec<u64> =
            pushed.into_iter().filter(|(_, kept)| *kept).map(|(number, _)| number).collect();
        assert_eq!(seen, expected);
        seen
    });
    for seen in [vec![1], vec![1, 2], vec![1, 3], vec![1, 2, 3]] {
        assert!(outcomes.contains(&seen), "{outcomes:?}");
    }
}

#[test]
fn returned_offsets_arrive_once_and_in_order() {
    let outcomes = model(3, |turned| {
        let (mut producer, mut consumer) = offsets::private(1);
        // What was done with a block before it is given back is seen by who gets it back.
        let block = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&block);
        let worker = move || {
            theirs.store(1, Ordering::Relaxed);
            assert!(producer.push(10));
            producer.push(11)
        };
        let parent = move || {
            let mut seen = Vec::new();
            for _ in 0..2 {
                if let Some(offset) = consumer.pop() {
                    assert_eq!(block.load(Ordering::Relaxed), 1);
                    seen.push(offset);
                }
            }
            (consumer, seen)
        };
        let (second, (mut consumer, seen)) = together(turned, worker, parent);
        let mut all = seen.clone();
        all.extend(consumer.pop());
        assert_eq!(all, if second { vec![10, 11] } else { vec![10] });
        (seen, second)
    });
    for outcome in [(vec![], false), (vec![10], false), (vec![10], true), (vec![10, 11], true)] {
        assert!(outcomes.contains(&outcome), "{outcomes:?}");
    }
}

/// Sleeps until the condition holds, as the pool's sleepers do; says whether it came to waiting.
fn sleep_until(bell: &Doorbell, condition: impl Fn() -> bool) -> bool {
    let mut waited = false;
    loop {
        let ticket = bell.ticket();
        bell.arm(1);
        if condition() {
            break;
        }
        bell.wait(ticket, None);
        waited = true;
    }
    bell.disarm(1);
    waited
}

fn tell(bell: &Doorbell) -> bool {
    let wanted = bell.wanted() & 1 != 0;
    if wanted {
        bell.ring();
    }
    wanted
}

/// Published words and the bell that tells of them.
#[derive(Clone)]
struct Board {
    bell: Arc<Doorbell>,
    news: Arc<[AtomicU32; 2]>,
}

impl Board {
    fn new() -> Board {
        let news = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        Board { bell: Arc::new(Doorbell::new()), news }
    }

    fn publish(&self, which: usize) -> bool {
        self.news[which].store(1, Ordering::Release);
        tell(&self.bell)
    }

    fn published(&self) -> u32 {
        self.news.iter().map(|news| news.load(Ordering::Relaxed)).sum()
    }
}

#[test]
fn a_wake_up_from_one_publisher_is_not_lost() {
    let outcomes = model(4, |turned| {
        let board = Board::new();
        let theirs = board.clone();
        let sleeper = move || sleep_until(&board.bell, || board.published() == 1);
        together(turned, sleeper, move || theirs.publish(0))
    });
    // Asleep and woken, awake and let be, and woken needlessly.
    for outcome in [(true, true), (false, false), (false, true)] {
        assert!(outcomes.contains(&outcome), "{outcomes:?}");
    }
}

#[test]
fn a_sleeper_that_stays_armed_loses_no_wake_up() {
    let outcomes = model(4, |turned| {
        let board = Board::new();
        board.bell.arm(1);
        let theirs = board.clone();
        let sleeper = move || {
            let mut waited = false;
            loop {
                let ticket = board.bell.ticket();
                if board.published() == 1 {
                    return waited;
                }
                board.bell.wait(ticket, None);
                waited = true;
            }
        };
        together(turned, sleeper, move || theirs.publish(0))
    });
    assert_eq!(outcomes, BTreeSet::from([(true, true), (false, true)]));
}

#[test]
fn a_publisher_that_rings_once_for_each_wish_leaves_nobody_asleep() {
    let outcomes = model(3, |turned| {
        let bell = Arc::new(Doorbell::new());
        let things = Arc::new(AtomicU32::new(0));
        let (inner, published) = (Arc::clone(&bell), Arc::clone(&things));
        let (rings, ()) = together(
            turned,
            move || {
                let mut rung_for = Wish::default();
                let mut rings = 0;
                for _ in 0..2 {
                    published.fetch_add(1, Ordering::Release);
                    let wish = inner.wish();
                    if wish.bits() != 0 && wish != rung_for {
                        rung_for = wish;
                        rings += 1;
                        inner.ring();
                    }
                }
                rings
            },
            move || {
                // It does something with each thing, and then sleeps anew.
                let mut had = 0;
                while had < 2 {
                    let ticket = bell.ticket();
                    bell.arm_anew(1);
                    if things.load(Ordering::Acquire) == had {
                        bell.wait(ticket, None);
                    }
                    bell.disarm(1);
                    had = things.load(Ordering::Acquire);
                }
            },
        );
        rings
    });
    assert!(outcomes.contains(&1), "one ring was for both: {outcomes:?}");
}

#[test]
fn a_wake_up_from_one_of_two_publishers_is_not_lost() {
    let outcomes = model(3, |turned| {
        let board = Board::new();
        let (one, other) = (board.clone(), board.clone());
        // Each is waited for in its turn, so that the bell is armed, disarmed and armed again.
        let sleeper = move || {
            let first = sleep_until(&board.bell, || board.published() >= 1);
            (first, sleep_until(&board.bell, || board.published() == 2))
        };
        let publishers = move || together(turned, move || one.publish(0), move || other.publish(1));
        together(turned, sleeper, publishers).0
    });
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_publisher_that_stops_before_it_rings_does_not_silence_another() {
    let outcomes = model(3, |turned| {
        let board = Board::new();
        let (one, other) = (board.clone(), board.clone());
        // What the stopped one published may or may not be noticed; the other's must be.
        let sleeper =
            move || sleep_until(&board.bell, || board.news[1].load(Ordering::Relaxed) == 1);
        let stopped = move || {
            one.news[0].store(1, Ordering::Release);
            // It has even asked what is wanted, and goes no further.
            one.bell.wanted() & 1 != 0
        };
        let publishers = move || together(turned, stopped, move || other.publish(1));
        together(turned, sleeper, publishers)
    });
    assert!(outcomes.contains(&(true, (true, true))), "{outcomes:?}");
}

#[test]
fn a_sleeper_hears_of_everything_that_is_pushed() {
    let outcomes = model(3, |turned| {
        let (mut producer, mut consumer) = ring::private(1);
        let bell = Arc::new(Doorbell::new());
        let theirs = Arc::clone(&bell);
        let sleeper = move || {
            let waited = sleep_until(&bell, || consumer.is_ready());
            assert_eq!(take(&mut consumer), Some(1));
            waited
        };
        let publisher = move || {
            push(&mut producer, 1).expect("room");
            tell(&theirs)
        };
        together(turned, sleeper, publisher)
    });
    for outcome in [(true, true), (false, false)] {
        assert!(outcomes.contains(&outcome), "{outcomes:?}");
    }
}

#[test]
fn a_sleeper_is_not_deceived_by_a_revoked_message() {
    let outcomes = model(3, |turned| {
        let (mut producer, mut consumer) = ring::private(2);
        let bell = Arc::new(Doorbell::new());
        let theirs = Arc::clone(&bell);
        let sleeper = move || {
            let mut seen = Vec::new();
            while seen.last() != Some(&2) {
                sleep_until(&bell, || consumer.is_ready());
                seen.extend(std::iter::from_fn(|| take(&mut consumer)));
            }
            seen
        };
        let publisher = move || {
            let first = push(&mut producer, 1).expect("room");
            let revoked = producer.revoke(first);
            push(&mut producer, 2).expect("room");
            tell(&theirs);
            revoked
        };
        let (seen, revoked) = together(turned, sleeper, publisher);
        assert_eq!(seen, if revoked { vec![2] } else { vec![1, 2] });
        revoked
    });
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn a_sleeper_whose_second_look_is_the_taking_itself_misses_nothing() {
    let outcomes = model(4, |turned| {
        let (mut producer, mut consumer) = ring::private(2);
        let bell = Arc::new(Doorbell::new());
        let theirs = Arc::clone(&bell);
        let sleeper = move || {
            let mut last = 0;
            while last != 2 {
                let ticket = bell.ticket();
                bell.arm(1);
                match take(&mut consumer) {
                    Some(number) => last = number,
                    None => {
                        bell.wait(ticket, None);
                    }
                }
            }
        };
        let publisher = move || {
            let first = push(&mut producer, 1).expect("room");
            push(&mut producer, 2).expect("room");
            tell(&theirs);
            // Nobody rings for this: what lies behind was there before the sleeper looked.
            producer.revoke(first)
        };
        together(turned, sleeper, publisher).1
    });
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn two_workers_results_are_both_heard_at_one_bell() {
    let outcomes = model(2, |turned| {
        let (mut first, mut from_first) = ring::private(1);
        let (mut second, mut from_second) = ring::private(1);
        let bell = Arc::new(Doorbell::new());
        let (one, other) = (Arc::clone(&bell), Arc::clone(&bell));
        let parent = move || {
            let mut seen = Vec::new();
            while seen.len() < 2 {
                sleep_until(&bell, || from_first.is_ready() || from_second.is_ready());
                seen.extend(take(&mut from_first));
                seen.extend(take(&mut from_second));
            }
            seen
        };
        let one = move || {
            push(&mut first, 1).expect("room");
            tell(&one)
        };
        let other = move || {
            push(&mut second, 2).expect("room");
            tell(&other)
        };
        together(turned, parent, move || together(turned, one, other)).0
    });
    assert_eq!(outcomes, BTreeSet::from([vec![1, 2], vec![2, 1]]));
}

/// Both sides of a message about so many items, which the consumer has taken.
fn taken_span(count: u32) -> (Producer, Consumer, Span, Span) {
    let (mut producer, mut consumer) = ring::private(2);
    let inline = span::inline(b"", count, false).expect("they are few");
    let message = Message::new([1; 6], &inline).expect("it fits");
    let slot = producer.push(&message).expect("nobody corrupts it").expect("it is empty");
    let (taken, _) = consumer.take().expect("nobody corrupts it").expect("it is there");
    let (watching, doing) = (producer.span(slot), consumer.span(taken));
    (producer, consumer, watching.expect("a slot"), doing.expect("a slot"))
}

#[test]
fn an_item_is_either_claimed_or_taken_back() {
    let outcomes = model(3, |turned| {
        let (_, _, producer, consumer) = taken_span(3);
        let (cut, claimed) = together(
            turned,
            move || producer.cut(|unclaimed| unclaimed / 2),
            move || std::iter::from_fn(|| consumer.claim().item).count() as u32,
        );
        let (before, now) = cut.unwrap_or((3, 3));
        assert_eq!(before, 3);
        assert_eq!(claimed, now, "each item is had by one side");
        claimed
    });
    assert_eq!(outcomes, BTreeSet::from([1, 2, 3]));
}

#[test]
fn who_watches_finds_what_is_finished_or_is_heard() {
    let outcomes = model(3, |turned| {
        let (_, _, producer, consumer) = taken_span(2);
        assert_eq!(consumer.claim().item, Some(0));
        let (seen, heard) = together(
            turned,
            move || {
                producer.watch();
                producer.progress().done
            },
            move || {
                consumer.commit(0, 1, 1);
                consumer.claim().is_watched
            },
        );
        assert!(seen == 1 || heard, "nobody sleeps beside a result");
        (seen, heard)
    });
    assert_eq!(outcomes.len(), 3);
}

#[test]
fn a_living_consumers_log_is_whole_if_nothing_was_sent_meanwhile() {
    let outcomes = model(3, |turned| {
        let (_producer, _consumer, producer, consumer) = taken_span(4);
        let (mut results, answers) = ring::private(2);
        // The log's memory is used again for the next log.
        let log = Arc::new(AtomicU32::new(0));
        let memory = Arc::clone(&log);
        consumer.begin_log(0, 64);
        log.store(10, Ordering::Relaxed);
        consumer.commit(0, 1, 10);
        let (seen, ()) = together(
            turned,
            move || {
                let progress = producer.progress();
                let read = memory.load(Ordering::Relaxed);
                producer.has_read();
                (!answers.is_ready()).then_some((progress, read))
            },
            move || {
                push(&mut results, 1);
                consumer.begin_log(1, 64);
                log.store(20, Ordering::Relaxed);
                consumer.commit(1, 2, 20);
            },
        );
        if let Some((seen, read)) = seen {
            assert_eq!((seen.first, seen.done, seen.offset, seen.bytes), (0, 1, 64, 10));
            assert_eq!(read, 10);
        }
        seen.is_some()
    });
    assert_eq!(outcomes.len(), 2);
}
