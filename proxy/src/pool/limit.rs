//! An exact bound: never more permits are out than it allows, over all threads, and those who wait get theirs in turn.
//!
//! All that counts is one word: the bound, how many permits are out, and whether anyone waits. Taking and returning a
//! permit is one compare-and-swap of it. Only when someone waits is there a queue to look at, under a lock: then no permit
//! is taken past those who wait, and one that comes back goes to the first of them without ever being free. The bound
//! may be changed at any time; after it was lowered, nobody gets a permit until enough have come back.
//!
//! The states of the queue are what the word says whenever the lock is free:
//!
//! | `QUEUED` | queue | permits |
//! |---|---|---|
//! | no | empty | taken and returned without the lock |
//! | yes | someone waits | taken and returned under the lock alone |
//!
//! `tests/loom` has all interleavings of a few threads checked by loom.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use super::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering};

/// The highest bound; more stands for no bound at all.
pub const UNBOUNDED: u32 = (1 << 31) - 1;
/// Someone waits.
const QUEUED: u64 = 1 << 31;

/// A handle on one bound; see the module.
#[derive(Debug, Clone)]
pub struct Limit {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    word: AtomicU64,
    queue: Mutex<Queue>,
}

/// The right to be one of so many; given back when it is dropped.
#[derive(Debug)]
#[must_use = "it is given back at once"]
pub struct Permit {
    shared: Arc<Shared>,
}

/// What the word of a limit says: 32 bits the bound, one bit whether anyone waits, 31 bits the permits out.
#[derive(Clone, Copy)]
struct Word(u64);

#[derive(Debug, Default)]
struct Queue {
    /// In the order of their numbers. Whoever is not in it any more has been given a permit.
    waiting: VecDeque<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    waker: Waker,
}

impl Word {
    fn new(max: u32, taken: u64, queued: bool) -> Self {
        let queued = if queued { QUEUED } else { 0 };
        Self(u64::from(max.min(UNBOUNDED)) << 32 | queued | taken)
    }

    fn max(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(UNBOUNDED)
    }

    fn taken(self) -> u64 {
        self.0 & (QUEUED - 1)
    }

    fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    fn has_room(self) -> bool {
        self.taken() < u64::from(self.max())
    }
}

impl Limit {
    /// No permit is out yet.
    #[must_use]
    pub fn new(max: u32) -> Self {
        let word = AtomicU64::new(Word::new(max, 0, false).0);
        Self { shared: Arc::new(Shared { word, queue: Mutex::new(Queue::default()) }) }
    }

    /// A permit, unless all are out or someone waits for one.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Permit> {
        self.shared.take().then(|| self.permit())
    }

    /// A permit, after those who waited before. Whoever stops waiting loses the place, and hands on what it was given.
    pub fn acquire(&self) -> Acquire {
        Acquire { limit: self.clone(), number: None }
    }

    /// Changes the bound.
    pub fn resize(&self, max: u32) {
        let queue = self.shared.lock();
        self.shared.update(|word| Some(Word::new(max, word.taken(), word.is_queued())));
        self.shared.serve(queue, 0);
    }

    /// Permits out.
    #[must_use]
    pub fn taken(&self) -> u32 {
        u32::try_from(self.shared.load().taken()).unwrap_or(UNBOUNDED)
    }

    /// Whether more permits are out than are allowed by now: the bound was lowered.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        let word = self.shared.load();
        word.taken() > u64::from(word.max())
    }

    fn permit(&self) -> Permit {
        Permit { shared: Arc::clone(&self.shared) }
    }
}

impl Shared {
    /// Counts one more permit, if there is room and nobody waits.
    fn take(&self) -> bool {
        self.update(|word| {
            (!word.is_queued() && word.has_room()).then(|| Word::new(word.max(), word.taken() + 1, false))
        })
    }

    /// One more permit, or a place in the queue.
    fn take_or_queue(&self, waker: &Waker) -> Option<u64> {
        if self.take() {
            return None;
        }
        let waker = waker.clone();
        let mut queue = self.lock();
        // What came back meanwhile is free only if nobody waits.
        let mut taken = false;
        self.update(|word| {
            taken = queue.waiting.is_empty() && word.has_room();
            Some(Word::new(word.max(), word.taken() + u64::from(taken), !taken))
        });
        if taken {
            return None;
        }
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Waiting { number, waker });
        Some(number)
    }

    fn release(&self) {
        let returned =
            self.update(|word| (!word.is_queued()).then(|| Word::new(word.max(), word.taken() - 1, false)));
        if !returned {
            let queue = self.lock();
            self.serve(queue, 1);
        }
    }

    /// Takes `returned` permits back, and gives out what there is to those who wait.
    fn serve(&self, mut queue: MutexGuard<'_, Queue>, returned: u64) {
        let mut served = 0;
        self.update(|word| {
            let taken = word.taken() - returned;
            let free = u64::from(word.max()).saturating_sub(taken);
            served = queue.waiting.len().min(usize::try_from(free).unwrap_or(usize::MAX));
            Some(Word::new(word.max(), taken + served as u64, served < queue.waiting.len()))
        });
        let woken: Vec<Waker> = queue.waiting.drain(..served).map(|waiting| waiting.waker).collect();
        drop(queue);
        for waker in woken {
            waker.wake();
        }
    }

    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Puts a new word in the place of the old one, unless `next` has none.
    fn update(&self, mut next: impl FnMut(Word) -> Option<Word>) -> bool {
        let mut now = self.word.load(Ordering::Acquire);
        while let Some(next) = next(Word(now)) {
            match self.word.compare_exchange_weak(now, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.release();
    }
}

/// Waits for a permit; see [`Limit::acquire`].
#[derive(Debug)]
#[must_use = "nobody waits until it is polled"]
pub struct Acquire {
    limit: Limit,
    /// Its place in the queue, while it waits or has a permit that it has not taken yet.
    number: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let Some(number) = self.number else {
            self.number = self.limit.shared.take_or_queue(cx.waker());
            return match self.number {
                None => Poll::Ready(self.limit.permit()),
                Some(_) => Poll::Pending,
            };
        };
        let waker = cx.waker().clone();
        let mut queue = self.limit.shared.lock();
        if let Some(waiting) = queue.find(number) {
            let former = std::mem::replace(&mut waiting.waker, waker);
            // Wakers are dropped without the lock: what they belong to may hold a permit.
            drop(queue);
            drop(former);
            return Poll::Pending;
        }
        drop(queue);
        self.number = None;
        Poll::Ready(self.limit.permit())
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut queue = self.limit.shared.lock();
        // Not in the queue any more: it has a permit, which is the next one's.
        let waited = queue.at(number).and_then(|at| queue.waiting.remove(at));
        self.limit.shared.serve(queue, u64::from(waited.is_none()));
    }
}

impl Queue {
    fn at(&self, number: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok()
    }

    fn find(&mut self, number: u64) -> Option<&mut Waiting> {
        let at = self.at(number)?;
        self.waiting.get_mut(at)
    }
}
