//! One sidecar, put together from its validated configuration and run until it is told to stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::Clock;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Scope};
use crate::authz::InboundPolicy;
use crate::config::{self, Bootstrap, Direction, Policy};
use crate::drain::{Drain, Drained};
use crate::inbound::{self, Inbound};
use crate::listen::{self, accept_loop};
use crate::metrics::{self, ExceptionLabels, Metrics};
use crate::outbound::{self, Outbound};
use crate::pool::Pools;
use crate::route::{OutboundPolicy, UnknownDestination};
use crate::svid::{self, AgentConfig, AgentError, IdentityWatch, TokenSource};
use crate::upstream::Dialler;

mod sockets;

use sockets::{Loopback, bind, bind_both, bind_unix};

/// Connections at a time on each of the probe, metrics and admin ports.
const SIDE_CONNECTIONS: usize = 64;
/// How often pools are looked through for connections that should go.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port is taken, or not ours to take.
    #[error(
        "cannot listen on {addr} ({what}): {source}; make way there, or set another in the bootstrap file"
    )]
    Bind {
        /// For what.
        what: &'static str,
        /// Where.
        addr: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No way to a first certificate.
    #[error(transparent)]
    Agent(Box<AgentError>),
    /// An explicit listener for a service that no policy file declares.
    #[error("the listener on {bind}: {source}")]
    Listener {
        /// Its address.
        bind: SocketAddr,
        /// What is not known.
        #[source]
        source: UnknownDestination,
    },
}

impl From<AgentError> for AppError {
    fn from(error: AgentError) -> Self {
        Self::Agent(Box::new(error))
    }
}

/// Runs until `stop` resolves, then drains.
///
/// # Errors
/// [`AppError`]: before any connection is accepted, or when there can be no first certificate.
pub async fn run(
    bootstrap: Bootstrap,
    join_token: Option<TokenSource>,
    policy: Policy,
    policy_clock: Clock,
    stop: impl Future<Output = ()>,
) -> Result<Drained, AppError> {
    let clock = Clock::system();
    let (identity, agent) = svid::start(agent_config(&bootstrap, join_token), clock.clone())?;
    let sidecar = Sidecar {
        metrics: Arc::new(Metrics::new()),
        inbound_drain: Drain::new(),
        drain: Drain::new(),
        bootstrap,
        policy,
        clock,
        policy_clock,
        identity,
    };
    // The agent is no task of the drain: certificates are renewed while connections finish.
    let mut agent = tokio::spawn(agent);
    sidecar.listen()?;
    sidecar.announce();
    tokio::select! {
        () = stop => {}
        ended = &mut agent => match ended {
            Ok(error) => return Err(error.into()),
            // Without its agent a sidecar would only fail later, at the end of its certificate.
            Err(died) => std::panic::resume_unwind(died.into_panic()),
        },
    }
    tracing::info!("draining");
    let drained = sidecar.finish().await;
    agent.abort();
    Ok(drained)
}

fn agent_config(bootstrap: &Bootstrap, join_token: Option<TokenSource>) -> AgentConfig {
    AgentConfig {
        ca_address: bootstrap.ca.address.clone(),
        trust_domain: bootstrap.workload.id().trust_domain().clone(),
        workload: bootstrap.workload.clone(),
        join_token,
        state_dir: bootstrap.state.clone(),
        min_version: bootstrap.min_tls,
    }
}

struct Sidecar {
    bootstrap: Bootstrap,
    policy: Policy,
    clock: Clock,
    /// The clock that exceptions expire by; ahead of the other when asked for.
    policy_clock: Clock,
    identity: IdentityWatch,
    metrics: Arc<Metrics>,
    /// Of connections to the app: they end first, while the app may still need others to finish its work.
    inbound_drain: Drain,
    /// Of everything else.
    drain: Drain,
}

impl Sidecar {
    fn listen(&self) -> Result<(), AppError> {
        self.listen_data_path()?;
        self.listen_side_ports()
    }

    /// Ends connections to the app, then those from it, within the drain deadline altogether.
    async fn finish(&self) -> Drained {
        let within = self.bootstrap.limits.drain_timeout;
        let deadline = Instant::now() + within;
        let inbound_ended = CancellationToken::new();
        let inbound = async {
            let drained = self.inbound_drain.finish(within).await;
            inbound_ended.cancel();
            drained
        };
        let rest = async {
            // The way out stays open while the app works, but not until its own requests have no time left.
            let _ = tokio::time::timeout(within * 3 / 4, inbound_ended.cancelled()).await;
            self.drain.finish(deadline.duration_since(Instant::now())).await
        };
        let (inbound, rest) = tokio::join!(inbound, rest);
        inbound.and(rest)
    }

    fn listen_data_path(&self) -> Result<(), AppError> {
        let (inbound, outbound) = (self.inbound(), self.outbound());
        if let Some(ports) = &self.bootstrap.interception {
            let own_ports: Arc<[u16]> = Arc::new([ports.inbound, ports.outbound]);
            for listener in bind_both("inbound", ports.inbound, Loopback::No)? {
                let entry = inbound::Entry::Intercepted { own_ports: Arc::clone(&own_ports) };
                self.serve_inbound(listener, &inbound, entry);
            }
            // Redirected packets of the app arrive on loopback: nobody else may come in here.
            for listener in bind_both("outbound", ports.outbound, Loopback::Only)? {
                let entry = outbound::Entry::Intercepted { own_ports: Arc::clone(&own_ports) };
                self.serve_outbound(listener, &outbound, entry);
            }
        }
        for listener in &self.bootstrap.listeners {
            let addr = listener.bind;
            match &listener.direction {
                Direction::Inbound { port, app } => {
                    let entry = inbound::Entry::Explicit { port: *port, app: *app };
                    self.serve_inbound(bind("explicit inbound", addr)?, &inbound, entry);
                }
                Direction::Outbound { host, port } => {
                    let destination = self.policy.outbound.destination_by_host(host, *port);
                    let destination =
                        destination.map_err(|source| AppError::Listener { bind: addr, source })?;
                    let destination = Arc::clone(destination);
                    let entry = outbound::Entry::Explicit { destination };
                    self.serve_outbound(bind("explicit outbound", addr)?, &outbound, entry);
                }
            }
        }
        Ok(())
    }

    fn serve_inbound(&self, listener: TcpListener, inbound: &Arc<Inbound>, entry: inbound::Entry) {
        let (drain, inbound) = (&self.inbound_drain, Arc::clone(inbound));
        accept(listener, self.permits(), drain, move |accepted| {
            Arc::clone(&inbound).serve(accepted, entry.clone())
        });
    }

    fn serve_outbound(&self, listener: TcpListener, outbound: &Arc<Outbound>, entry: outbound::Entry) {
        let outbound = Arc::clone(outbound);
        accept(listener, self.permits(), &self.drain, move |accepted| {
            Arc::clone(&outbound).serve(accepted, entry.clone())
        });
    }

    fn listen_side_ports(&self) -> Result<(), AppError> {
        let admin = self.admin();
        let permits = || Arc::new(Semaphore::new(SIDE_CONNECTIONS));
        let probes = Arc::clone(&admin);
        accept(bind("probes", self.bootstrap.probes)?, permits(), &self.drain, move |accepted| {
            Arc::clone(&probes).serve_plaintext(accepted, Scope::Probes)
        });
        let metrics = Arc::clone(&admin);
        accept(bind("metrics", self.bootstrap.metrics)?, permits(), &self.drain, move |accepted| {
            Arc::clone(&metrics).serve_metrics(accepted)
        });
        match &self.bootstrap.admin {
            config::Admin::Tcp(addr) => {
                accept(bind("admin", *addr)?, permits(), &self.drain, move |accepted| {
                    Arc::clone(&admin).serve_plaintext(accepted, Scope::Admin)
                })
            }
            config::Admin::Unix(path) => {
                let (listener, guard) = bind_unix(path.clone())?;
                self.drain.spawn(admin.accept_unix(listener, guard));
            }
        }
        Ok(())
    }

    /// Each listener has its own, so that a flood on one leaves room on the others.
    fn permits(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.bootstrap.limits.connections))
    }

    fn inbound(&self) -> Arc<Inbound> {
        Arc::new(Inbound {
            identity: self.identity.clone(),
            policy: Arc::clone(&self.policy.inbound),
            own: self.bootstrap.workload.id().clone(),
            clock: self.clock.clone(),
            policy_clock: self.policy_clock.clone(),
            metrics: Arc::clone(&self.metrics),
            drain: self.inbound_drain.clone(),
            handshake: self.bootstrap.limits.handshake_timeout,
        })
    }

    fn outbound(&self) -> Arc<Outbound> {
        let dialler = Dialler { policy_clock: self.policy_clock.clone() };
        let pools = Pools::new(dialler, Arc::clone(&self.metrics), self.drain.clone());
        self.every(SWEEP, {
            let (pools, identity) = (pools.clone(), self.identity.clone());
            move || pools.sweep(identity.current().map_or(0, |identity| identity.generation()))
        });
        Arc::new(Outbound {
            identity: self.identity.clone(),
            policy: Arc::clone(&self.policy.outbound),
            pools,
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            drain: self.drain.clone(),
            detection: self.bootstrap.limits.detection_timeout,
        })
    }

    fn admin(&self) -> Arc<Admin> {
        let (metrics, identity) = (Arc::clone(&self.metrics), self.identity.clone());
        let (inbound, outbound) = (Arc::clone(&self.policy.inbound), Arc::clone(&self.policy.outbound));
        let clock = self.policy_clock.clone();
        Arc::new(Admin {
            identity: self.identity.clone(),
            metrics: Arc::clone(&self.metrics),
            trust_domain: self.bootstrap.workload.id().trust_domain().clone(),
            clock: self.clock.clone(),
            drain: self.drain.clone(),
            leaving: self.inbound_drain.clone(),
            handshake: self.bootstrap.limits.handshake_timeout,
            port: self.bootstrap.metrics.port(),
            refresh: Box::new(move || refresh(&metrics, &identity, (&inbound, &outbound), &clock)),
        })
    }

    /// Says `ready` once certified.
    fn announce(&self) {
        let (mut identity, drain) = (self.identity.clone(), self.drain.clone());
        self.drain.spawn(async move {
            let certified = async {
                while !identity.status().is_ready() {
                    identity.changed().await;
                }
            };
            tokio::select! {
                () = certified => {}
                () = drain.begun() => return,
            }
            tracing::info!(identity = %identity.status(), "ready");
        });
    }

    fn every(&self, period: Duration, action: impl Fn() + Send + 'static) {
        let drain = self.drain.clone();
        self.drain.spawn(async move {
            let mut ticks = tokio::time::interval(period);
            loop {
                tokio::select! {
                    _ = ticks.tick() => action(),
                    () = drain.begun() => return,
                }
            }
        });
    }
}

fn refresh(
    metrics: &Metrics,
    identity: &IdentityWatch,
    (inbound, outbound): (&InboundPolicy, &OutboundPolicy),
    policy_clock: &Clock,
) {
    let counts = identity.counts();
    metrics.certificates_issued.set(i64::try_from(counts.issued).unwrap_or(i64::MAX));
    metrics.certificates_failed.set(i64::try_from(counts.failed).unwrap_or(i64::MAX));
    metrics.ready.set(i64::from(identity.status().is_ready()));
    if let Some(current) = identity.current() {
        metrics.identity_generation.set(i64::try_from(current.generation()).unwrap_or(i64::MAX));
        let not_after = u32::try_from(current.svid().facts().not_after).unwrap_or(u32::MAX);
        metrics.certificate_expiry.set(f64::from(not_after));
    }
    let now = policy_clock.now();
    let mut open: BTreeMap<(metrics::Direction, u16, bool), i64> = BTreeMap::new();
    for exception in inbound.exceptions() {
        let key = (metrics::Direction::inbound, exception.port, exception.is_justified());
        *open.entry(key).or_default() += i64::from(inbound.mode(exception.port, now).is_plaintext());
    }
    for exception in outbound.destinations().filter_map(|destination| destination.exception()) {
        let key = (metrics::Direction::outbound, exception.port, exception.is_justified());
        *open.entry(key).or_default() += i64::from(exception.is_open(now));
    }
    for ((direction, port, justified), count) in open {
        let justified = if justified { "true" } else { "false" };
        metrics.exceptions.get_or_create(&ExceptionLabels { direction, port, justified }).set(count);
    }
}

fn accept<H, F>(listener: TcpListener, permits: Arc<Semaphore>, drain: &Drain, handler: H)
where
    H: Fn(listen::Accepted) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    drain.spawn(accept_loop(listener, permits, drain.clone(), handler));
}
