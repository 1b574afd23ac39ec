//! One sidecar, put together from its validated configuration and run until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_identity::Clock;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Scope};
use crate::config::{self, Bootstrap, Direction, Loaded};
use crate::drain::{Drain, Drained};
use crate::inbound::{self, Inbound};
use crate::listen::{self, accept_loop};
use crate::metrics::Metrics;
use crate::outbound::{self, Outbound};
use crate::route::UnknownDestination;
use crate::status::Listener;
use crate::svid::{self, AgentConfig, AgentError, IdentityWatch, TokenSource};

mod gauges;
mod parts;
mod policy;
mod report;
mod sockets;

use policy::{PolicyInForce, put_in_force};
use sockets::{Loopback, bind, bind_both, bind_unix};

/// Connections at a time on each of the probe, metrics and admin ports.
const SIDE_CONNECTIONS: usize = 64;

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

/// Runs until `stop` resolves, then drains. The files of the policy are followed; see [`PolicySource`](config::PolicySource).
///
/// # Errors
/// [`AppError`]: before any connection is accepted, or when there can be no first certificate.
pub async fn run(
    bootstrap: Bootstrap,
    join_token: Option<TokenSource>,
    policy: Loaded,
    stop: impl Future<Output = ()>,
) -> Result<Drained, AppError> {
    let clock = Clock::system();
    let (identity, agent) = svid::start(agent_config(&bootstrap, join_token), clock.clone())?;
    let metrics = Arc::new(Metrics::new());
    let (policy, watch) = policy.follow();
    let policy_clock = watch.clock().clone();
    let (reloader, policy) = put_in_force(policy, watch.paths(), Arc::clone(&metrics), clock.clone());
    let sidecar = Sidecar {
        metrics,
        listeners: Arc::default(),
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
    sidecar.drain.spawn(reloader.run(watch, sidecar.drain.clone()));
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
    policy: PolicyInForce,
    clock: Clock,
    /// The clock that exceptions expire by; ahead of the other when asked for.
    policy_clock: Clock,
    identity: IdentityWatch,
    metrics: Arc<Metrics>,
    /// Every socket that listens, for `status`.
    listeners: Arc<Mutex<Vec<Listener>>>,
    /// Of connections to the app: they end first, while the app may still need others to finish its work.
    inbound_drain: Drain,
    /// Of everything else.
    drain: Drain,
}

impl Sidecar {
    fn listen(&self) -> Result<(), AppError> {
        let outbound = self.outbound();
        self.listen_data_path(&outbound)?;
        self.listen_side_ports(&self.admin(&outbound))
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

    fn listen_data_path(&self, outbound: &Arc<Outbound>) -> Result<(), AppError> {
        let inbound = self.inbound();
        if let Some(ports) = &self.bootstrap.interception {
            let own_ports: Arc<[u16]> = Arc::new([ports.inbound, ports.outbound]);
            for listener in bind_both("inbound", ports.inbound, Loopback::No)? {
                let entry = inbound::Entry::Intercepted { own_ports: Arc::clone(&own_ports) };
                self.listening(&listener, "inbound", "every port of the app, by interception");
                self.serve_inbound(listener, &inbound, entry);
            }
            // Redirected packets of the app arrive on loopback: nobody else may come in here.
            for listener in bind_both("outbound", ports.outbound, Loopback::Only)? {
                let entry = outbound::Entry::Intercepted { own_ports: Arc::clone(&own_ports) };
                self.listening(&listener, "outbound", "whatever the app calls, by interception");
                self.serve_outbound(listener, outbound, entry);
            }
        }
        for listener in &self.bootstrap.listeners {
            let addr = listener.bind;
            match &listener.direction {
                Direction::Inbound { port, app } => {
                    let entry = inbound::Entry::Explicit { port: *port, app: *app };
                    let listener = bind("explicit inbound", addr)?;
                    self.listening(&listener, "inbound", &format!("port {port}, the app at {app}"));
                    self.serve_inbound(listener, &inbound, entry);
                }
                Direction::Outbound { host, port } => {
                    // A mistake at the start; once a reload has taken the service away, each connection is refused.
                    let known = self.policy.outbound.load().destination_by_host(host, *port).map(drop);
                    known.map_err(|source| AppError::Listener { bind: addr, source })?;
                    let entry = outbound::Entry::Explicit { host: host.as_str().into(), port: *port };
                    let listener = bind("explicit outbound", addr)?;
                    self.listening(&listener, "outbound", &format!("{host}:{port}"));
                    self.serve_outbound(listener, outbound, entry);
                }
            }
        }
        Ok(())
    }

    fn listening(&self, listener: &TcpListener, direction: &str, purpose: &str) {
        let address = listener.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string());
        self.listed(address, direction, purpose);
    }

    fn listed(&self, address: String, direction: &str, purpose: &str) {
        let listener = Listener { address, direction: direction.to_owned(), purpose: purpose.to_owned() };
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
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

    fn listen_side_ports(&self, admin: &Arc<Admin>) -> Result<(), AppError> {
        let probes = self.bind_own("probes", self.bootstrap.probes)?;
        self.serve_pages(probes, admin, |admin, accepted| admin.serve_plaintext(accepted, Scope::Probes));
        let metrics = self.bind_own("metrics", self.bootstrap.metrics)?;
        self.serve_pages(metrics, admin, Admin::serve_metrics);
        match &self.bootstrap.admin {
            config::Admin::Tcp(addr) => {
                let listener = self.bind_own("admin", *addr)?;
                self.serve_pages(listener, admin, |admin, accepted| {
                    admin.serve_plaintext(accepted, Scope::Admin)
                });
            }
            config::Admin::Unix(path) => {
                let (listener, guard) = bind_unix(path.clone())?;
                self.listed(format!("unix:{}", path.display()), "own", "admin");
                self.drain.spawn(Arc::clone(admin).accept_unix(listener, guard));
            }
        }
        Ok(())
    }

    fn bind_own(&self, what: &'static str, addr: SocketAddr) -> Result<TcpListener, AppError> {
        let listener = bind(what, addr)?;
        self.listening(&listener, "own", what);
        Ok(listener)
    }

    fn serve_pages<F>(
        &self,
        listener: TcpListener,
        admin: &Arc<Admin>,
        serve: impl Fn(Arc<Admin>, listen::Accepted) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (admin, permits) = (Arc::clone(admin), Arc::new(Semaphore::new(SIDE_CONNECTIONS)));
        accept(listener, permits, &self.drain, move |accepted| serve(Arc::clone(&admin), accepted));
    }

    /// Each listener has its own, so that a flood on one leaves room on the others.
    fn permits(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.bootstrap.limits.connections))
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

fn accept<H, F>(listener: TcpListener, permits: Arc<Semaphore>, drain: &Drain, handler: H)
where
    H: Fn(listen::Accepted) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    drain.spawn(accept_loop(listener, permits, drain.clone(), handler));
}
