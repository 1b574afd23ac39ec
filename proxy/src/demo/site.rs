//! The place of the demonstration: hosts, two authorities, two pairs of sidecars, and an intruder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::DemoError;
use super::files::{Bootstrap, Listeners};
use super::lab::{Host, Isolation, Lab, LabError, Process};
use super::probe::{self, Reply};
use super::programs::{APP_USER, Authority, PROXY_USER, Programs, Sidecar};

/// The service's port.
pub(super) const PORT: u16 = 8443;
/// Without networks of their own, apps listen this much above the port of their sidecar.
const APP_OFFSET: u16 = 10_000;
/// First of the loopback addresses used then, 127.0.0.78: the lower ones may be somebody's.
const LOOPBACK_OFFSET: u8 = 77;

/// A directory that goes away with what runs in it.
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// `purpose` is part of its name, for those who find it.
    pub(crate) fn create(purpose: &str) -> Result<Self, DemoError> {
        let name = format!("portcullis-{purpose}-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(DemoError::io(path.display().to_string()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Hosts on a switch, or loopback addresses where no network may be made.
pub(super) struct Ground {
    lab: Option<Lab>,
    loopbacks: u8,
}

impl Ground {
    pub(super) fn new(isolation: Isolation) -> Result<Self, LabError> {
        let lab = match isolation {
            Isolation::Root | Isolation::UserNamespace => Some(Lab::new()?),
            Isolation::None => None,
        };
        Ok(Self { lab, loopbacks: LOOPBACK_OFFSET })
    }

    pub(super) fn host(&mut self, name: &str) -> Result<Host, LabError> {
        if let Some(lab) = &mut self.lab {
            return lab.host(name);
        }
        self.loopbacks += 1;
        Ok(Host::on_loopback(name, self.loopbacks))
    }

    /// The switch; `None` on loopback, where nothing is intercepted either.
    pub(super) fn lab(&self) -> Option<&Lab> {
        self.lab.as_ref()
    }
}

/// What a pair is made from.
pub(super) struct PairPlan {
    pub namespace: &'static str,
    pub service: &'static str,
    pub client: &'static str,
    pub authority_port: u16,
    pub leaf_life: &'static str,
    /// A port of the service beside [`PORT`].
    pub second_port: u16,
    /// File names and texts; the service's entry is added.
    pub policy: Vec<(&'static str, String)>,
    /// For the service's sidecar.
    pub server_arguments: Vec<String>,
}

/// A client and a service, each with its sidecar, and the authority of both.
pub(super) struct Pair {
    pub authority: Authority,
    pub server: Sidecar,
    pub client: Sidecar,
    /// `NAME.NAMESPACE.svc.cluster.local:8443`.
    pub service: String,
    /// Where the client's app connects to reach it.
    pub target: SocketAddr,
    /// Where the service's app listens, for itself.
    app: SocketAddr,
    /// What both sidecars read; the directory above it is for files on their way there.
    policy: PathBuf,
    load: PathBuf,
    _apps: Vec<Process>,
}

impl Pair {
    /// Starts everything; the sidecars get ready meanwhile.
    pub(super) fn start(
        ground: &mut Ground,
        authority_host: &Host,
        programs: &Programs,
        run_dir: &Path,
        plan: PairPlan,
    ) -> Result<Self, DemoError> {
        let dir = run_dir.join(plan.namespace);
        let (server_host, client_host) = (ground.host(plan.service)?, ground.host(plan.client)?);
        let (port, life) = (plan.authority_port, plan.leaf_life);
        let authority = Authority::start(authority_host, programs, dir.join("ca"), port, life)?;
        let policy = dir.join("policy");
        write_policy(&policy, &plan, &server_host)?;
        let intercepted = ground.lab().is_some();
        let service = format!("{}.{}.svc.cluster.local:{PORT}", plan.service, plan.namespace);

        let listeners = |host: &Host, inbound: &[u16], outbound: Option<&str>| Listeners {
            address: host.ipv4(),
            inbound: inbound.iter().map(|port| (*port, port + APP_OFFSET)).collect(),
            outbound: outbound.map(str::to_owned),
        };
        let sidecar = |host: &Host, account: &'static str, listeners: Listeners, arguments| {
            let namespace = plan.namespace;
            let bootstrap = Bootstrap {
                namespace,
                service_account: account,
                authority: authority.address(),
                listeners: (!intercepted).then_some(listeners),
            };
            let token = authority.token(&format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"))?;
            let user = intercepted.then_some(PROXY_USER);
            let files = (bootstrap.text(), token);
            let files = (files.0.as_str(), files.1.as_str());
            let mut sidecar = Sidecar::new(host, programs, dir.join(account), user, files, arguments)?;
            if intercepted {
                sidecar.intercept("apply")?;
            }
            sidecar.start()?;
            Ok::<_, DemoError>(sidecar)
        };
        let ports = [PORT, plan.second_port];
        let server_listeners = listeners(&server_host, &ports, None);
        let server = sidecar(&server_host, plan.service, server_listeners, plan.server_arguments.clone())?;
        let client =
            sidecar(&client_host, plan.client, listeners(&client_host, &[], Some(&service)), vec![])?;
        let apps = ports.map(|port| start_app(&server_host, programs, port, intercepted));
        let apps = apps.into_iter().collect::<Result<_, _>>()?;
        let (target, app) = if intercepted {
            ((server_host.ipv4(), PORT).into(), ([127, 0, 0, 1], PORT).into())
        } else {
            ((client_host.ipv4(), PORT).into(), (server_host.ipv4(), PORT + APP_OFFSET).into())
        };
        let load = programs.load.clone();
        Ok(Self { authority, server, client, service, target, app, policy, load, _apps: apps })
    }

    /// What the client's app gets when it asks the service.
    pub(super) fn call(&self, path: &str) -> Result<Reply, DemoError> {
        probe::get(&self.client.host, self.target, &self.service, path)
    }

    /// Puts a file into the policy in one step, while the sidecars run: in the place of what it held, if it was there.
    pub(super) fn put_policy(&self, name: &str, text: &str) -> Result<(), DemoError> {
        let (beside, there) = (self.policy.with_file_name(name), self.policy.join(name));
        let put = fs::write(&beside, text).and_then(|()| fs::rename(beside, &there));
        put.map_err(DemoError::io(there.display().to_string()))
    }

    /// Takes it away again.
    pub(super) fn withdraw_policy(&self, name: &str) -> Result<(), DemoError> {
        let path = self.policy.join(name);
        fs::remove_file(&path).map_err(DemoError::io(path.display().to_string()))
    }

    /// Where anybody else would try to reach the service.
    pub(super) fn door(&self, port: u16) -> SocketAddr {
        (self.server.host.ipv4(), port).into()
    }

    /// Requests that have reached the service's app, as it says itself.
    pub(super) fn served(&self) -> Result<u64, DemoError> {
        let count = probe::get(&self.server.host, self.app, "app", "/count")?.accepted()?;
        count.parse().map_err(|_| DemoError::Unexpected(format!("the app counts {count:?} requests")))
    }

    /// The client's app begins to call the service, at a fixed rate, on kept connections.
    pub(super) fn load(&self, path: &str, rate: u32, seconds: u32) -> Result<Process, DemoError> {
        let url = format!("http://{}{path}", self.target);
        self.app_load(&url, rate, seconds)
    }

    /// The client's app calls any URL, past the sidecar if it could.
    pub(super) fn app_load(&self, url: &str, rate: u32, seconds: u32) -> Result<Process, DemoError> {
        let command = self.client.host.command(&self.load).args(["--url", url, "--connections", "8"]);
        let command = command.args(["--rate", &rate.to_string(), "--duration", &seconds.to_string()]);
        // On loopback there is one user, and no way past anything to be tried.
        let intercepted = self.app.ip().is_loopback() && self.app.port() == PORT;
        Ok(if intercepted { command.user(APP_USER) } else { command }.spawn()?)
    }
}

fn start_app(host: &Host, programs: &Programs, port: u16, intercepted: bool) -> Result<Process, DemoError> {
    let command = host.command(&programs.hello);
    let process = if intercepted {
        command.args(["--listen", &format!("[::]:{port}")]).user(APP_USER).spawn()?
    } else {
        command.args(["--listen", &format!("{}:{}", host.ipv4(), port + APP_OFFSET)]).spawn()?
    };
    process.wait_for_line(|line| line.contains("ready"), Duration::from_secs(5))?;
    Ok(process)
}

fn write_policy(dir: &Path, plan: &PairPlan, server: &Host) -> Result<(), DemoError> {
    let failed = || DemoError::io(dir.display().to_string());
    fs::create_dir_all(dir).map_err(failed())?;
    let entry = super::files::service_entry(plan.service, plan.namespace, server.ipv4());
    let entry = ("service-entry.yaml", &entry);
    for (name, text) in plan.policy.iter().map(|(name, text)| (*name, text)).chain([entry]) {
        fs::write(dir.join(name), text).map_err(failed())?;
    }
    Ok(())
}

/// Everything that takes part.
pub(super) struct Site {
    /// Certificates of a day: for all acts but two.
    pub day: Pair,
    /// Certificates of four seconds, renewed after about two.
    pub fast: Pair,
    /// A host without sidecar.
    pub intruder: Host,
    pub ground: Ground,
    /// Last, as everything above has files in it.
    pub dir: RunDir,
}
