//! One connection of the generator, from its first request until either side is done with it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::exchange::{Broken, Open};
use super::outcome::{Failure, Outcome};
use super::tally::Ticket;

/// A kept connection that ends so soon after a request set out on it was being closed already: the two crossed on the
/// network, or in the other side's queue. Later than this, the request was cut off, which is what is to be measured.
const CROSSED: Duration = Duration::from_millis(50);

/// Where the requests go.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) host: HeaderValue,
    pub(super) path: PathAndQuery,
}

/// The connections without a request, the one used last on top.
#[derive(Default)]
pub(super) struct Free(Mutex<Stack>);

#[derive(Default)]
struct Stack {
    waiting: Vec<oneshot::Sender<Ticket>>,
    closed: bool,
}

impl Free {
    /// Gives the request to a free connection, or back.
    pub(super) fn hand_out(&self, mut ticket: Ticket) -> Option<Ticket> {
        loop {
            let Some(connection) = self.lock().waiting.pop() else { return Some(ticket) };
            match connection.send(ticket) {
                Ok(()) => return None,
                // It was closed by the other side meanwhile.
                Err(back) => ticket = back,
            }
        }
    }

    /// There are no more requests.
    pub(super) fn close(&self) {
        let mut stack = self.lock();
        stack.closed = true;
        stack.waiting.clear();
    }

    /// `None` when there will be no more requests.
    fn wait(&self) -> Option<oneshot::Receiver<Ticket>> {
        let mut stack = self.lock();
        if stack.closed {
            return None;
        }
        let (give, get) = oneshot::channel();
        stack.waiting.push(give);
        Some(get)
    }

    fn lock(&self) -> MutexGuard<'_, Stack> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a connection for this request, and keeps it for others as long as the other side does.
pub(super) async fn run(target: Arc<Target>, free: Arc<Free>, first: Ticket) {
    let mut open = None;
    let mut next = Some(first);
    while let Some(ticket) = next {
        ticket.sent();
        let ended = tokio::time::timeout_at(ticket.deadline, request(&target, &mut open, &ticket)).await;
        // The answer of a request that was given up would be taken for the next one's.
        let outcome = ended.unwrap_or_else(|_| {
            open = None;
            Outcome::Failed(Failure::Timeout)
        });
        ticket.ended(&outcome);
        let Some(kept) = &mut open else { return };
        let Some(mut given) = free.wait() else { return };
        next = tokio::select! {
            biased;
            ticket = &mut given => ticket.ok(),
            () = kept.closed() => {
                // A request may have been given at that very moment: it goes over a new connection.
                open = None;
                given.close();
                given.try_recv().ok()
            }
        };
    }
}

/// Sends the request over the open connection, or a new one. Leaves `open` empty when it cannot be used again.
///
/// A server may close a kept connection just as a request sets out on it. The request is then sent once more, on a new
/// connection, as RFC 9110 section 9.2.2 lets every client do with a GET; its latency runs from when it was due, and it is counted as
/// sent again.
async fn request(target: &Target, open: &mut Option<Open>, ticket: &Ticket) -> Outcome {
    if let Some(kept) = open.take() {
        let sent = Instant::now();
        match kept.exchange(target).await {
            Ok((answer, kept)) => {
                *open = kept;
                return answer.unwrap_or_else(|| Outcome::Succeeded(ticket.due.elapsed()));
            }
            Err(Broken { unanswered: true, .. }) if sent.elapsed() <= CROSSED => ticket.sent_again(),
            Err(Broken { failure, .. }) => return Outcome::Failed(failure),
        }
    }
    let opened = match Open::connect(target.address).await {
        Ok(opened) => opened,
        Err(failure) => return Outcome::Failed(failure),
    };
    match opened.exchange(target).await {
        Ok((answer, kept)) => {
            *open = kept;
            answer.unwrap_or_else(|| Outcome::Succeeded(ticket.due.elapsed()))
        }
        Err(Broken { failure, .. }) => Outcome::Failed(failure),
    }
}
