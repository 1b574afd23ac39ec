//! Waking up when something is due, not up to a millisecond later.
//!
//! Tokio's timers count milliseconds. That is the whole latency of a fast service, and eight requests at 8,000 per
//! second. A `timerfd` is as fine as the kernel's clock, wakes the runtime like a socket, and needs no busy waiting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Wakes one task.
pub(super) struct Alarm {
    timer: AsyncFd<Descriptor>,
}

struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// Belongs to the runtime that it is made on.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        #[allow(
            deprecated,
            reason = "`register` is unsafe, and this crate has unsafe code in `sys` alone; what makes it so, a descriptor \
                      closed or exchanged while it is registered, cannot happen to one that is owned here for good"
        )]
        let timer = AsyncFd::new(Descriptor(timer))?;
        Ok(Self { timer })
    }

    /// Returns at `due`, or at once if that is past.
    pub(super) async fn until(&mut self, due: Instant) -> io::Result<()> {
        loop {
            // Relative, since tokio does not show its clock's reading. Zero would disarm the timer.
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            self.timer.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
            // Setting it again also forgets that it has expired: it need not be read.
            self.timer.readable().await?.clear_ready();
        }
    }
}

/// Wakes many tasks, each at its own time, with one [`Alarm`].
#[derive(Clone, Default)]
pub(super) struct Alarms(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<BinaryHeap<Reverse<Waiting>>>,
    /// The next one is due sooner than before.
    sooner: Notify,
}

struct Waiting {
    due: Instant,
    wake: oneshot::Sender<()>,
}

impl Alarms {
    /// Returns at `due`, while [`Alarms::run`] runs.
    pub(super) async fn until(&self, due: Instant) {
        if due <= Instant::now() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        let first = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let first = waiting.peek().is_none_or(|Reverse(next)| due < next.due);
            waiting.push(Reverse(Waiting { due, wake }));
            first
        };
        if first {
            self.0.sooner.notify_one();
        }
        // An error means that nobody runs the alarms any more: the runtime is ending.
        let _ = woken.await;
    }

    /// Wakes all that wait, for ever.
    pub(super) async fn run(&self, mut alarm: Alarm) -> io::Result<()> {
        loop {
            let sooner = self.0.sooner.notified();
            match self.wake_due() {
                Some(next) => tokio::select! {
                    reached = alarm.until(next) => reached?,
                    () = sooner => {}
                },
                None => sooner.await,
            }
        }
    }

    /// Wakes those whose time has come; when the next one is due.
    fn wake_due(&self) -> Option<Instant> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while waiting.peek()?.0.due <= now {
            // Who does not wait any more needs no waking.
            waiting.pop().map(|Reverse(due)| due.wake.send(()).ok());
        }
        waiting.peek().map(|Reverse(next)| next.due)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// In microseconds.
    fn median(mut late: Vec<u128>) -> u128 {
        late.sort_unstable();
        late[late.len() / 2]
    }

    #[tokio::test]
    async fn an_alarm_is_never_early_and_mostly_less_than_half_a_millisecond_late() {
        let mut alarm = Alarm::new().unwrap();
        let mut late = Vec::new();
        for step in 1..=200 {
            let due = Instant::now() + Duration::from_micros(step * 17);
            tokio::time::timeout(LIMIT, alarm.until(due)).await.unwrap().unwrap();
            let now = Instant::now();
            assert!(now >= due);
            late.push((now - due).as_micros());
        }
        // The runtime's own timer is up to a millisecond late, half of one on average.
        assert!(median(late.clone()) < 400, "{late:?}");
    }

    #[tokio::test]
    async fn an_alarm_given_up_does_not_disturb_the_next() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..50 {
            let begun = Instant::now();
            let soon = begun + Duration::from_millis(2);
            tokio::select! {
                biased;
                reached = alarm.until(soon) => reached.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            let due = begun + Duration::from_millis(5);
            tokio::time::timeout(LIMIT, alarm.until(due)).await.unwrap().unwrap();
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test]
    async fn each_is_woken_at_its_own_time_in_whatever_order_they_come() {
        let alarms = Alarms::default();
        let running = alarms.clone();
        let run = tokio::spawn(async move { running.run(Alarm::new().unwrap()).await });
        let start = Instant::now() + Duration::from_millis(5);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..1000_u64 {
            let alarms = alarms.clone();
            // 7919 is prime to 1000: each of 0..1000 once, mixed.
            let due = start + Duration::from_micros(number * 7919 % 1000 * 100);
            tasks.spawn(async move {
                alarms.until(due).await;
                let now = Instant::now();
                assert!(now >= due);
                (now - due).as_micros()
            });
        }
        // One that is given up is no hindrance.
        let given_up = alarms.until(start);
        drop(given_up);
        let late = tokio::time::timeout(LIMIT, tasks.join_all()).await.unwrap();
        assert!(median(late.clone()) < 1000, "{late:?}");
        assert!(alarms.0.waiting.lock().unwrap().is_empty());
        run.abort();
    }
}
