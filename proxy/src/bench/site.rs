//! Our own pair: an authority and two sidecars on loopback, STRICT between them.
//!
//! The client's sidecar has a listener and a destination for each setting, all of which lead to the one sidecar of the
//! upstream. So a sweep changes no policy while it runs, and every setting has a pool that no other one has used.

mod files;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::carrier::{Carrier, Way, free_ports, of, own_loopback};
use super::error::{BenchError, last_lines};
use super::grid::Limits;
use super::watch::Gauge;
use crate::demo::RunDir;
use crate::demo::lab::Host;
use crate::demo::programs::{Authority, Programs, Sidecar};

/// The namespace of both workloads and of all destinations.
const NAMESPACE: &str = "bench";
/// Certificates outlive every sweep.
const LEAF_LIFE: &str = "24h";
/// Ports taken beside one for each setting: the authority, the service, and three of each sidecar for itself.
const OTHER_PORTS: usize = 8;

/// The running pair.
pub struct Site {
    client: Sidecar,
    server: Sidecar,
    _authority: Authority,
    places: Vec<(Limits, Place)>,
    admin: SocketAddr,
    /// Last, as everything above has files in it.
    _dir: RunDir,
}

/// Where one setting is.
struct Place {
    listener: SocketAddr,
    /// `HOST:PORT`, as the sidecar's status names it.
    destination: String,
}

impl Site {
    /// Starts everything and waits until it serves.
    ///
    /// # Errors
    /// [`BenchError`], when `portcullis-ca` is not beside this program, or something does not start: with its last lines.
    pub fn start(settings: &[Limits], upstream: SocketAddr) -> Result<Self, BenchError> {
        let programs = programs()?;
        let dir = RunDir::create("bench")?;
        let number = own_loopback();
        let host = |name| Host::on_loopback(name, number);
        let ports = free_ports(number, settings.len() + OTHER_PORTS)?;
        let (own, listeners) = ports.split_at_checked(OTHER_PORTS).unwrap_or_default();
        let [authority, service, server_own @ .., c1, c2, admin] = own else {
            return Err(BenchError::io("no ports")(std::io::ErrorKind::AddrNotAvailable.into()));
        };
        let places: Vec<(Limits, Place)> = settings
            .iter()
            .zip(listeners)
            .enumerate()
            .map(|(index, (limits, listener))| {
                let destination = format!("{}:{}", files::host(index), service.port());
                (*limits, Place { listener: *listener, destination })
            })
            .collect();
        let policy = dir.path().join("policy");
        write_policy(&policy, settings, *service)?;
        let ca =
            Authority::start(&host("ca"), &programs, dir.path().join("ca"), authority.port(), LEAF_LIFE)?;
        let start = |name, own: &[SocketAddr], listeners: String| {
            let token = ca.token(&format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/{name}"));
            let token = token.map_err(crate::demo::DemoError::from)?;
            let bootstrap = files::bootstrap(name, &ca.address(), own, &listeners);
            let files = (bootstrap.as_str(), token.as_str());
            let mut sidecar =
                Sidecar::new(&host(name), &programs, dir.path().join(name), None, files, vec![])?;
            sidecar.start()?;
            Ok::<_, BenchError>(sidecar)
        };
        let server = start("server", server_own, files::inbound(*service, upstream))?;
        let outbound = places.iter().map(|(_, place)| files::outbound(place.listener, &place.destination));
        let client = start("client", &[*c1, *c2, *admin], outbound.collect())?;
        server.ready()?;
        client.ready()?;
        Ok(Self { client, server, _authority: ca, places, admin: *admin, _dir: dir })
    }
}

impl Carrier for Site {
    fn way(&self, limits: &Limits) -> Result<Way, BenchError> {
        let place = of(&self.places, limits)?;
        Way::to(place.listener, Some(place.destination.clone()))
    }

    fn gauge(&self, limits: &Limits) -> Option<Gauge> {
        let place = of(&self.places, limits).ok()?;
        Some(Gauge::portcullis(self.admin, &place.destination))
    }

    fn processes(&self) -> Vec<i32> {
        [&self.client, &self.server].into_iter().filter_map(Sidecar::id).collect()
    }

    fn alive(&self) -> Result<(), BenchError> {
        for (who, sidecar) in [("the client's sidecar", &self.client), ("the server's sidecar", &self.server)]
        {
            if let Some(status) = sidecar.ended() {
                let log = last_lines(&sidecar.log());
                return Err(BenchError::Died { who, how: status.to_string(), log });
            }
        }
        Ok(())
    }
}

/// Both programs, beside this one. The demonstration's apps take no part.
fn programs() -> Result<Programs, BenchError> {
    let this = std::env::current_exe().map_err(BenchError::io("the path of this program"))?;
    let authority = this.with_file_name("portcullis-ca");
    if !authority.is_file() {
        return Err(BenchError::Missing(authority));
    }
    Ok(Programs { portcullis: this, authority, hello: PathBuf::new(), load: PathBuf::new() })
}

fn write_policy(dir: &Path, settings: &[Limits], service: SocketAddr) -> Result<(), BenchError> {
    let failed = || BenchError::io(dir.display().to_string());
    fs::create_dir_all(dir).map_err(failed())?;
    for (index, limits) in settings.iter().enumerate() {
        let text = files::policy(index, limits, NAMESPACE, service);
        fs::write(dir.join(format!("s{index}.yaml")), text).map_err(failed())?;
    }
    Ok(())
}
