//! Names of servers, looked up again as their records run out; when a lookup fails, the last good answer stays.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::latest::Latest;
use crate::route::{Destination, EndpointAddr, OutboundPolicy, Resolution};

/// Addresses kept of one name.
const ADDRESSES: usize = 64;
/// A record is believed for no less, so that a TTL of 0 is no flood, ...
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// ... and for no longer, so that one wrong answer does not stay for a week.
const LONGEST_TTL: Duration = Duration::from_secs(300);
/// A failed lookup is tried again after this long, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Longest lookup of both families together.
const LOOKUP: Duration = Duration::from_secs(10);
/// Lookups at once.
const LOOKUPS: usize = 16;

/// The addresses of names. Cheap to clone.
#[derive(Clone)]
pub struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` when the system does not say whom to ask.
    resolver: Option<TokioResolver>,
    lookups: Semaphore,
    known: Mutex<HashMap<Arc<str>, Known>>,
}

/// The last good answer.
#[derive(Clone)]
struct Known {
    addresses: Arc<[IpAddr]>,
    since: Instant,
    failing: bool,
}

/// What is known of one name, for `portcullis status`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NameStatus {
    /// The name.
    pub name: String,
    /// Its addresses; none before the first good answer.
    pub addresses: Vec<IpAddr>,
    /// How long ago they were confirmed, in seconds; `null` before the first good answer.
    pub age_s: Option<u64>,
    /// Whether the last lookup failed.
    pub failing: bool,
}

/// What one lookup of one family said.
enum Family {
    Found(Vec<IpAddr>, Duration),
    /// There is none.
    Empty,
    Failed(NetError),
}

impl Names {
    /// Asks the resolvers of `/etc/resolv.conf`, after `/etc/hosts`.
    #[must_use]
    pub fn system() -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            // Answers are kept here, with their age.
            builder.options_mut().cache_size = 0;
            builder.build()
        });
        let resolver = built.inspect_err(|error| {
            tracing::warn!(%error, "no DNS: destinations with resolution DNS cannot be reached; check /etc/resolv.conf");
        });
        Self::with_resolver(resolver.ok())
    }

    /// Asks `resolver`, or knows nothing.
    #[must_use]
    pub fn with_resolver(resolver: Option<TokioResolver>) -> Self {
        let inner = Inner { resolver, lookups: Semaphore::new(LOOKUPS), known: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The addresses of a name that is followed, never empty; `None` before the first good answer.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        // An address stands for itself.
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Some(Arc::new([ip]));
        }
        self.known().get(name).map(|known| Arc::clone(&known.addresses))
    }

    /// The service that is resolved by DNS and has this address and port; none when two have.
    #[must_use]
    pub fn find(&self, policy: &OutboundPolicy, original: SocketAddr) -> Option<Arc<Destination>> {
        let ip = original.ip().to_canonical();
        let has = |name: &str| self.addresses(name).is_some_and(|addresses| addresses.contains(&ip));
        let mut found = policy.destinations().filter(|destination| {
            destination.resolution == Resolution::Dns
                && destination.subset.is_none()
                && destination.port == original.port()
                && (has(&destination.host)
                    || destination.endpoints.iter().any(|endpoint| match &endpoint.addr {
                        EndpointAddr::Name(name, _) => has(name),
                        EndpointAddr::Socket(addr) => addr.ip().to_canonical() == ip,
                    }))
        });
        let first = found.next()?;
        found.next().is_none().then(|| Arc::clone(first))
    }

    /// What is known, in the order of the names.
    #[must_use]
    pub fn status(&self) -> Vec<NameStatus> {
        let mut all: Vec<_> = self
            .known()
            .iter()
            .map(|(name, known)| NameStatus {
                name: name.to_string(),
                addresses: known.addresses.to_vec(),
                age_s: Some(known.since.elapsed().as_secs()),
                failing: known.failing,
            })
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Keeps the names of the latest policy looked up; ends only when it is dropped.
    pub async fn follow(&self, mut policy: Latest<OutboundPolicy>) {
        let mut tasks = JoinSet::new();
        let mut followed: HashMap<Arc<str>, AbortHandle> = HashMap::new();
        loop {
            let wanted: BTreeSet<Arc<str>> =
                policy.load().names().map(|(name, _)| Arc::clone(name)).collect();
            followed.retain(|name, task| {
                let keep = wanted.contains(name);
                if !keep {
                    task.abort();
                    self.known().remove(name);
                }
                keep
            });
            for name in wanted {
                followed.entry(Arc::clone(&name)).or_insert_with(|| {
                    let names = self.clone();
                    tasks.spawn(async move { names.refresh(name).await })
                });
            }
            tokio::select! {
                () = policy.changed() => {}
                // Collects the ends of those that are no longer followed.
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }

    /// Looks one name up again and again.
    async fn refresh(&self, name: Arc<str>) {
        let mut retry = FIRST_RETRY;
        loop {
            let looked_up = tokio::time::timeout(LOOKUP, self.look_up(&name)).await;
            let wait = match looked_up.unwrap_or(Err(NetError::Timeout)) {
                Ok((addresses, ttl)) => {
                    let known = Known { addresses, since: Instant::now(), failing: false };
                    self.known().insert(Arc::clone(&name), known);
                    retry = FIRST_RETRY;
                    ttl.clamp(SHORTEST_TTL, LONGEST_TTL)
                }
                Err(error) => {
                    let kept = self.known().get_mut(&name).map(|known| {
                        known.failing = true;
                        known.since.elapsed().as_secs()
                    });
                    tracing::warn!(%name, %error, kept_for_s = kept, "lookup failed; the last good answer stays");
                    let wait = retry;
                    retry = (retry * 2).min(LONGEST_RETRY);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Both families. When one fails and the other does not, the addresses known of the failed one stay.
    async fn look_up(&self, name: &Arc<str>) -> Result<(Arc<[IpAddr]>, Duration), NetError> {
        let resolver = self.inner.resolver.as_ref().ok_or(NetError::NoConnections)?;
        let _turn = self.inner.lookups.acquire().await.map_err(|_| NetError::Busy)?;
        let (v4, v6) =
            tokio::join!(family(resolver, name, RecordType::A), family(resolver, name, RecordType::AAAA));
        let before = self.known().get(name).map(|known| Arc::clone(&known.addresses)).unwrap_or_default();
        let (mut found, mut ttl, mut answered, mut failed) = (Vec::new(), LONGEST_TTL, false, None);
        for (answer, is_v4) in [(v4, true), (v6, false)] {
            match answer {
                Family::Found(addresses, lives) => {
                    found.extend(addresses);
                    (ttl, answered) = (ttl.min(lives), true);
                }
                Family::Empty => {}
                Family::Failed(error) => {
                    found.extend(before.iter().filter(|ip| ip.is_ipv4() == is_v4));
                    failed = Some(error);
                }
            }
        }
        if !answered {
            return Err(failed.unwrap_or(NetError::Message("the name has no address")));
        }
        let mut seen = BTreeSet::new();
        found.retain(|ip| seen.insert(*ip));
        found.truncate(ADDRESSES);
        Ok((found.into(), ttl))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        // Nothing panics while holding it, and an answer is put in as a whole.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn family(resolver: &TokioResolver, name: &str, kind: RecordType) -> Family {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            let mut ttl = LONGEST_TTL;
            let mut addresses = Vec::new();
            for record in lookup.answers() {
                ttl = ttl.min(Duration::from_secs(record.ttl.into()));
                if let RData::A(a) = &record.data {
                    addresses.push(IpAddr::V4(a.0));
                } else if let RData::AAAA(aaaa) = &record.data {
                    addresses.push(IpAddr::V6(aaaa.0).to_canonical());
                }
            }
            if addresses.is_empty() { Family::Empty } else { Family::Found(addresses, ttl) }
        }
        Err(error) if error.is_no_records_found() => Family::Empty,
        Err(error) => Family::Failed(error),
    }
}

#[cfg(test)]
pub(crate) mod tests;
