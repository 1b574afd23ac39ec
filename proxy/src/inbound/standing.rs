//! What becomes of connections and requests when the policy is replaced: each is judged again, those no longer permitted
//! end within a second, and nothing else notices.
//!
//! The port's mode is asked of the whole connection, the AuthorizationPolicies of the bytes or of each request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Session;
use crate::authz::{Admitted, Denial, InboundPolicy, Permit, RequestFacts, Verdict};
use crate::latest::Latest;
use crate::lifetime::Lifetime;
use crate::refusal::Refusal;

/// From the word that a connection is no longer wanted to its cut.
const GOODBYE: Duration = Duration::from_millis(400);

impl Session {
    /// Leave to pass bytes, under the policy as it is now.
    pub(super) fn stream_permit(&self) -> Result<Permit, Denial> {
        let policy = self.inbound.policy.load();
        self.again(&policy)?.stream(&policy)
    }

    /// Resolves when the bytes of this connection are no longer permitted.
    pub(super) async fn stream_revoked(&self) -> Denial {
        let mut policy = self.policy.clone();
        loop {
            self.next_judgement(&mut policy).await;
            if let Err(denial) = self.stream_permit() {
                return denial;
            }
        }
    }

    /// Resolves when nothing that could come over this connection is permitted any more.
    pub(super) async fn stream_barred(&self) -> Denial {
        let mut policy = self.policy.clone();
        loop {
            self.next_judgement(&mut policy).await;
            if let Err(denial) = self.not_barred(&policy.load()) {
                return denial;
            }
        }
    }

    /// Judges the requests under way, and the connection, each time that the policy is replaced.
    pub(super) async fn judge_requests(&self) -> Infallible {
        let mut policy = self.policy.clone();
        loop {
            self.next_judgement(&mut policy).await;
            let now = policy.get();
            match self.not_barred(&now) {
                Ok(admitted) => self.under_way.judge(|facts| admitted.request_again(&now, facts)),
                Err(denial) => {
                    self.revoked.store(true, Ordering::Relaxed);
                    self.under_way.judge(|_| Err::<Permit, _>(denial.clone()));
                    self.report(&Refusal::Revoked(denial));
                    self.lifetime.drain();
                    tokio::time::sleep(GOODBYE).await;
                    self.lifetime.cut();
                    return std::future::pending().await;
                }
            }
        }
    }

    fn not_barred(&self, policy: &InboundPolicy) -> Result<Admitted, Denial> {
        let admitted = self.again(policy)?;
        if admitted.verdict(policy) == Verdict::Denied {
            admitted.stream(policy)?;
        }
        Ok(admitted)
    }

    fn again(&self, policy: &InboundPolicy) -> Result<Admitted, Denial> {
        self.admitted.again(policy, self.inbound.policy_clock.now(), self.inbound.own.trust_domain())
    }

    /// Resolves when there is another policy than before, or when the plan of a plaintext exception ends that a policy
    /// has shortened since.
    async fn next_judgement(&self, policy: &mut Latest<InboundPolicy>) {
        let clock = &self.inbound.policy_clock;
        let ends = match self.admitted.peer() {
            Some(_) => None,
            None => policy.load().mode(self.admitted.facts().port, clock.now()).ends(),
        };
        let shortened = ends.filter(|ends| self.lifetime.outlives(*ends));
        let exception = Lifetime::until(clock, shortened);
        tokio::select! {
            () = policy.changed() => {}
            () = exception.over(), if shortened.is_some() => {}
        }
    }
}

/// The requests of one connection that have been permitted and are not yet over; as many as it has streams.
#[derive(Default)]
pub(super) struct UnderWay {
    shared: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    requests: BTreeMap<u64, Entry>,
}

struct Entry {
    facts: RequestFacts,
    /// To whoever passes on the answer.
    answer: oneshot::Sender<Denial>,
    /// To whoever passes on the request's body, which may go on while nobody reads the answer.
    body: oneshot::Sender<()>,
}

impl UnderWay {
    /// Enters a request, before it is judged: a policy that comes between is met by one look or the other. With the
    /// second value it is known when to stop passing on the body.
    pub(super) fn enter(&self, facts: RequestFacts) -> (Standing, oneshot::Receiver<()>) {
        let (answer, revoked) = oneshot::channel();
        let (body, stop) = oneshot::channel();
        let mut entries = lock(&self.shared);
        let id = entries.next;
        entries.next = entries.next.wrapping_add(1);
        entries.requests.insert(id, Entry { facts, answer, body });
        (Standing { shared: Arc::clone(&self.shared), id, revoked: Some(revoked) }, stop)
    }

    /// Ends those that `judge` denies.
    fn judge<T>(&self, judge: impl Fn(&RequestFacts) -> Result<T, Denial>) {
        let mut entries = lock(&self.shared);
        let denied: Vec<(u64, Denial)> = entries
            .requests
            .iter()
            .filter_map(|(id, entry)| Some((*id, judge(&entry.facts).err()?)))
            .collect();
        for (id, denial) in denied {
            if let Some(entry) = entries.requests.remove(&id) {
                // Nobody listens when the request has just ended by itself.
                let _ = (entry.body.send(()), entry.answer.send(denial));
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.shared).requests.len()
    }
}

/// One request's place among those under way; it leaves with this.
pub(super) struct Standing {
    shared: Arc<Mutex<Entries>>,
    id: u64,
    revoked: Option<oneshot::Receiver<Denial>>,
}

impl Standing {
    /// Ready, once, when the request is no longer permitted.
    pub(super) fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<Denial> {
        let Some(revoked) = &mut self.revoked else { return Poll::Pending };
        let denial = std::task::ready!(Pin::new(revoked).poll(cx));
        self.revoked = None;
        denial.map_or(Poll::Pending, Poll::Ready)
    }

    /// Resolves when the request is no longer permitted.
    pub(super) async fn revoked(&mut self) -> Denial {
        poll_fn(|cx| self.poll_revoked(cx)).await
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        lock(&self.shared).requests.remove(&self.id);
    }
}

fn lock(entries: &Mutex<Entries>) -> MutexGuard<'_, Entries> {
    // Judging does not panic half-way through a change of the map.
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::authz::RuleRef;

    #[tokio::test]
    async fn only_what_is_denied_ends_and_nothing_is_kept_of_what_is_over() {
        let under_way = UnderWay::default();
        let policy = InboundPolicy::strict_everywhere();
        let enter = || under_way.enter(RequestFacts::of(&Request::new(()).into_parts().0, &policy));
        let (mut standing, stop) = enter();
        let (over, _) = enter();
        assert_eq!(under_way.len(), 2);
        drop(over);
        assert_eq!(under_way.len(), 1);

        under_way.judge(|_| Ok::<_, Denial>(()));
        let still = tokio::time::timeout(Duration::from_millis(10), standing.revoked()).await;
        assert!(still.is_err(), "control: what is permitted goes on");
        let denial = Denial::Plaintext { rule: RuleRef::built_in() };
        under_way.judge(|_| Err::<(), _>(denial.clone()));
        assert_eq!(standing.revoked().await, denial);
        assert!(stop.await.is_ok(), "the body stops as well");
        assert_eq!(under_way.len(), 0);
        drop(standing);

        let (standing, stop) = enter();
        drop(standing);
        assert!(stop.await.is_err(), "what ends by itself stops nothing");
    }
}
