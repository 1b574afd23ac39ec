//! The permit by itself; `tests/loom` has its interleavings checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::pool::limit::{Limit, UNBOUNDED};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn there_are_as_many_permits_as_the_bound_says() {
    for max in [0, 1, 2, 100] {
        let limit = Limit::new(max);
        let all: Vec<_> = std::iter::from_fn(|| limit.try_acquire()).collect();
        assert_eq!(all.len(), max as usize);
        drop(all);
        assert_eq!(limit.taken(), 0);
        assert_eq!(limit.try_acquire().is_some(), max > 0);
    }
    let unbounded = Limit::new(u32::MAX);
    assert!(unbounded.try_acquire().is_some());
    assert_eq!(unbounded.taken(), 0);
    unbounded.resize(UNBOUNDED);
    assert!(unbounded.try_acquire().is_some());
}

#[tokio::test]
async fn who_waits_is_served_in_turn_and_nobody_passes() {
    let limit = Limit::new(1);
    let held = limit.try_acquire().unwrap();
    let mut waiting: Vec<_> = (0..5).map(|number| (number, Box::pin(limit.acquire()))).collect();
    for (_, one) in &mut waiting {
        assert!(futures_poll(one.as_mut()).is_none());
    }
    // The third gives up.
    drop(waiting.remove(2));
    drop(held);
    let mut order = Vec::new();
    while !waiting.is_empty() {
        assert!(limit.try_acquire().is_none(), "it is the first waiter's");
        // Whoever is asked first: one has it, and nobody else.
        let served = waiting
            .iter_mut()
            .rev()
            .find_map(|(number, one)| futures_poll(one.as_mut()).map(|permit| (*number, permit)));
        let (number, permit) = served.expect("one of them has been served");
        waiting.retain(|(other, _)| *other != number);
        order.push(number);
        drop(permit);
    }
    assert_eq!(order, [0, 1, 3, 4]);
    assert!(limit.try_acquire().is_some());
}

fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(&mut future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn one_who_gives_up_hands_on_what_it_was_just_given() {
    let limit = Limit::new(1);
    let held = limit.try_acquire().unwrap();
    let (mut first, mut second) = (Box::pin(limit.acquire()), Box::pin(limit.acquire()));
    assert!(futures_poll(first.as_mut()).is_none() && futures_poll(second.as_mut()).is_none());
    drop(held);
    drop(first);
    assert!(futures_poll(second.as_mut()).is_some());
    assert_eq!(limit.taken(), 0);
}

#[tokio::test]
async fn a_bound_that_is_lowered_gives_nothing_until_enough_came_back_and_a_raised_one_gives_at_once() {
    let limit = Limit::new(3);
    let mut held: Vec<_> = std::iter::from_fn(|| limit.try_acquire()).collect();
    limit.resize(1);
    assert!(limit.is_exceeded());
    let mut waiting = Box::pin(limit.acquire());
    for taken in [2, 1] {
        held.pop();
        assert!(futures_poll(waiting.as_mut()).is_none());
        assert_eq!(limit.taken(), taken);
    }
    assert!(!limit.is_exceeded());
    limit.resize(2);
    let served = futures_poll(waiting.as_mut());
    assert!(served.is_some());
    assert!(limit.try_acquire().is_none());
}

/// 64 tasks, each a million operations where asked for: taking, waiting, giving up in the middle, panicking with a permit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_stress_there_is_never_one_too_many_and_none_is_lost() {
    #[allow(clippy::disallowed_methods, reason = "the length of the run is the caller's choice")]
    let asked = std::env::var("PORTCULLIS_STRESS_OPERATIONS").ok();
    let operations: usize = asked.map_or(20_000, |asked| asked.parse().unwrap());
    for max in [1, 5, 40] {
        let limit = Limit::new(max);
        let (out, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..64)
            .map(|seed| {
                let (limit, out, most) = (limit.clone(), Arc::clone(&out), Arc::clone(&most));
                tokio::spawn(async move {
                    let mut rng = StdRng::seed_from_u64(seed);
                    for _ in 0..operations {
                        let permit = match rng.random_range(0..4) {
                            0 => limit.try_acquire(),
                            1 => tokio::select! {
                                biased;
                                permit = limit.acquire() => Some(permit),
                                () = tokio::task::yield_now() => None,
                            },
                            _ => Some(limit.acquire().await),
                        };
                        let Some(permit) = permit else { continue };
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        if rng.random_bool(0.2) {
                            tokio::task::yield_now().await;
                        }
                        out.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        let done = async {
            for task in tasks {
                task.await.unwrap();
            }
        };
        tokio::time::timeout(LONG * 10, done).await.expect("nobody waits for ever");
        assert_eq!(most.load(Ordering::SeqCst), max as usize, "as many as allowed, and never more");
        assert_eq!(limit.taken(), 0, "every permit came back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_a_task_that_is_cut_give_their_permits_back() {
    let limit = Limit::new(2);
    for cut in [false, true] {
        let held = limit.clone();
        let task = tokio::spawn(async move {
            let _both = (held.acquire().await, held.acquire().await);
            if !cut {
                std::panic::resume_unwind(Box::new("with permits"));
            }
            std::future::pending::<()>().await;
        });
        if cut {
            tokio::time::timeout(LONG, async {
                while limit.taken() < 2 {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap();
            task.abort();
        }
        assert!(task.await.is_err());
        assert_eq!(limit.taken(), 0);
    }
}
