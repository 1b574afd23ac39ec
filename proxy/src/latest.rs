//! The latest of a value that is replaced as a whole: readers never wait, and whoever rests on an older one can
//! learn that it is no longer the latest.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// Replaces the value. There is one for each [`Latest`].
pub struct Publisher<T> {
    value: Arc<ArcSwap<T>>,
    generation: watch::Sender<u64>,
}

/// Reads the value. Cheap to clone; each clone remembers for itself which change it has seen.
pub struct Latest<T> {
    value: Arc<ArcSwap<T>>,
    generation: watch::Receiver<u64>,
}

/// A value at its first generation, 1.
#[must_use]
pub fn publish<T>(first: Arc<T>) -> (Publisher<T>, Latest<T>) {
    let value = Arc::new(ArcSwap::new(first));
    let (sender, receiver) = watch::channel(1);
    let publisher = Publisher { value: Arc::clone(&value), generation: sender };
    (publisher, Latest { value, generation: receiver })
}

impl<T> Publisher<T> {
    /// Puts `next` in the place of the value before, and wakes whoever waits for a change.
    pub fn replace(&self, next: Arc<T>) {
        // The value first: who is woken must find it.
        self.value.store(next);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// How many values there have been.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }
}

impl<T> Latest<T> {
    /// A value that is never replaced.
    #[must_use]
    pub fn fixed(value: Arc<T>) -> Self {
        publish(value).1
    }

    /// The value, for a look.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// The value, to keep.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// How many values there have been.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// A clone that has seen the value of this moment: what it loads from now on is that one or a later one.
    #[must_use]
    pub fn seen(&self) -> Self {
        let mut clone = self.clone();
        clone.generation.mark_unchanged();
        clone
    }

    /// Resolves when the value has been replaced since this clone last saw it; never when nobody can replace it.
    pub async fn changed(&mut self) {
        if self.generation.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), generation: self.generation.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_reader_is_woken_once_for_a_change_and_finds_the_new_value() {
        let (publisher, mut one) = publish(Arc::new("old"));
        let mut other = one.clone();
        publisher.replace(Arc::new("new"));
        for reader in [&mut one, &mut other] {
            reader.changed().await;
            assert_eq!((*reader.get(), reader.generation()), ("new", 2));
            let again = tokio::time::timeout(Duration::from_secs(1), reader.changed());
            assert!(again.await.is_err(), "there was one change");
        }
        let mut late = other.seen();
        assert!(tokio::time::timeout(Duration::from_secs(1), late.changed()).await.is_err(), "seen already");
        publisher.replace(Arc::new("newest"));
        late.changed().await;
        assert_eq!(*late.get(), "newest");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_publisher_nothing_ever_changes() {
        let mut fixed = Latest::fixed(Arc::new(1));
        assert!(tokio::time::timeout(Duration::from_secs(1), fixed.changed()).await.is_err());
    }
}
