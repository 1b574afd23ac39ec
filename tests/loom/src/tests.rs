use loom::future::block_on;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::limit::{Limit, Permit};

/// Holds a permit, and sees that no more than `max` do.
fn hold(permit: Permit, out: &AtomicUsize, max: usize) {
    assert!(out.fetch_add(1, Ordering::SeqCst) < max, "one too many");
    out.fetch_sub(1, Ordering::SeqCst);
    drop(permit);
}

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    // Switches away from a thread that could go on: two find nearly all mistakes, and end in seconds.
    builder.preemption_bound = Some(2);
    builder.check(test);
}

#[test]
fn those_who_wait_all_get_a_permit_and_never_too_many_have_one() {
    model(|| {
        let (limit, out) = (Limit::new(1), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (limit, out) = (limit.clone(), Arc::clone(&out));
                thread::spawn(move || hold(block_on(limit.acquire()), &out, 1))
            })
            .collect();
        hold(block_on(limit.acquire()), &out, 1);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(limit.taken(), 0);
        assert!(limit.try_acquire().is_some());
    });
}

#[test]
fn who_takes_at_once_and_who_waits_share_the_bound() {
    model(|| {
        let (limit, out) = (Limit::new(2), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (limit, out) = (limit.clone(), Arc::clone(&out));
                thread::spawn(move || {
                    if let Some(permit) = limit.try_acquire() {
                        hold(permit, &out, 2);
                    }
                })
            })
            .collect();
        hold(block_on(limit.acquire()), &out, 2);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(limit.taken(), 0);
    });
}

#[test]
fn who_gives_up_at_any_moment_hands_on_what_it_was_given() {
    model(|| {
        let limit = Limit::new(1);
        let held = limit.try_acquire().unwrap();
        let leaving = {
            let limit = limit.clone();
            thread::spawn(move || {
                let mut acquire = Box::pin(limit.acquire());
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                drop(acquire.as_mut().poll(&mut cx));
            })
        };
        let waiting = {
            let limit = limit.clone();
            thread::spawn(move || drop(block_on(limit.acquire())))
        };
        drop(held);
        leaving.join().unwrap();
        waiting.join().unwrap();
        assert_eq!(limit.taken(), 0);
    });
}

#[test]
fn a_bound_that_changes_meanwhile_loses_nobody() {
    model(|| {
        let limit = Limit::new(0);
        let waiting = {
            let limit = limit.clone();
            thread::spawn(move || drop(block_on(limit.acquire())))
        };
        limit.resize(1);
        waiting.join().unwrap();
        assert_eq!(limit.taken(), 0);
        limit.resize(0);
        assert!(limit.try_acquire().is_none());
    });
}

#[test]
#[should_panic(expected = "one too many")]
fn the_control_looks_before_it_takes_and_is_caught() {
    model(|| {
        let (taken, out) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let take = move || {
            if taken.load(Ordering::SeqCst) < 1 {
                taken.fetch_add(1, Ordering::SeqCst);
                assert!(out.fetch_add(1, Ordering::SeqCst) < 1, "one too many");
                out.fetch_sub(1, Ordering::SeqCst);
                taken.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let other = thread::spawn(take.clone());
        take();
        other.join().unwrap();
    });
}
