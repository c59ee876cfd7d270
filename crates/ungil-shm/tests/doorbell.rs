//! The doorbell between threads; between processes it is tested with the channel.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ungil_shm::{Bell, Wake};

#[test]
fn a_ring_after_the_ticket_is_not_slept_through() {
    let bell = Bell::private();
    let ticket = bell.ticket();
    bell.ring();
    assert_eq!(bell.wait(ticket, None), Wake::Rung);
}

#[test]
fn a_deadline_that_has_passed_ends_the_wait() {
    let bell = Bell::private();
    assert_eq!(bell.wait(bell.ticket(), Some(Instant::now())), Wake::TimedOut);
    let deadline = Instant::now() + Duration::from_millis(5);
    assert_eq!(bell.wait(bell.ticket(), Some(deadline)), Wake::TimedOut);
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_deadline_beyond_all_reckoning_is_none() {
    let bell = Bell::private();
    let mut deadline = Instant::now();
    for power in (0..63).rev() {
        deadline = deadline.checked_add(Duration::from_secs(1 << power)).unwrap_or(deadline);
    }
    std::thread::scope(|scope| {
        let ticket = bell.ticket();
        scope.spawn(|| bell.ring());
        assert_eq!(bell.wait(ticket, Some(deadline)), Wake::Rung);
    });
}

#[test]
fn only_the_bits_that_are_disarmed_go() {
    let bell = Bell::private();
    bell.arm(0b101);
    bell.arm(0b010);
    bell.disarm(0b001);
    assert_eq!(bell.wanted(), 0b110);
}

#[test]
fn ring_all_wakes_everyone() {
    let bell = Bell::private();
    let ticket = bell.ticket();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| while bell.wait(ticket, None) != Wake::Rung {});
        }
        bell.ring_all();
    });
}

#[test]
fn two_threads_pass_a_turn_back_and_forth() {
    const TURNS: u32 = 20_000;
    let (ping, pong) = (Bell::private(), Bell::private());
    let turn = AtomicU32::new(0);
    let play = |own: &Bell, other: &Bell, parity: u32| {
        for nth in (parity..TURNS).step_by(2) {
            loop {
                let ticket = own.ticket();
                own.arm(1);
                if turn.load(Ordering::Acquire) == nth {
                    break;
                }
                own.wait(ticket, None);
            }
            own.disarm(1);
            turn.store(nth + 1, Ordering::Release);
            if other.wanted() != 0 {
                other.ring();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play(&ping, &pong, 0));
        scope.spawn(|| play(&pong, &ping, 1));
    });
    assert_eq!(turn.load(Ordering::Relaxed), TURNS);
}

#[test]
fn a_signal_whose_handler_does_not_restart_calls_is_told() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: All zeros is a valid value of this structure of numbers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: The handler does nothing, and nothing else in this process uses the signal.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);

    let bell = Bell::private();
    let done = AtomicBool::new(false);
    // SAFETY: The call has no preconditions.
    let sleeper = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Again and again, because a signal that comes before the sleep does not end it.
            while !done.load(Ordering::Acquire) {
                // SAFETY: The sleeper waits for this thread, so it still runs.
                unsafe { libc::pthread_kill(sleeper, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        });
        let woken = bell.wait(bell.ticket(), None);
        done.store(true, Ordering::Release);
        assert_eq!(woken, Wake::Interrupted);
    });
}
