//! A small network in a box: a switch and hosts, each a network namespace without a name.
//!
//! A namespace here is held by a file descriptor alone. Nothing is written to `/run/netns` or `/etc/netns`,
//! no name can clash with the machine's, and when the holder dies, by `kill -9` too, the kernel takes the
//! whole network away. Processes started on a host are killed on drop, and by the kernel when this program
//! dies; [`enter_sandbox`] sees to what they have started in turn. It knows nothing of the proxy: it moves packets and runs programs.
//!
//! The addresses are the same in every lab, as no lab can see another: host N has 10.77.0.N and fd77::N, the
//! switch is the default router.

mod error;
mod namespace;
mod output;
mod process;
mod sandbox;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use error::LabError;
pub use namespace::Namespace;
pub use process::{Finished, HostCommand, Process};
pub use sandbox::{Isolation, enter_sandbox};

/// The switch's own end, and the hosts' default router.
const HUB_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const HUB_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfe);
/// Hosts are numbered from 1, and 254 is the switch.
const MOST_HOSTS: u8 = 253;

/// A switch, and the hosts' numbering. The hosts keep running when it is dropped, but unconnected.
#[derive(Debug)]
pub struct Lab {
    hub: Namespace,
    hosts: u8,
}

impl Lab {
    /// Makes the switch.
    ///
    /// # Errors
    /// [`LabError`]; without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` it says so.
    pub fn new() -> Result<Self, LabError> {
        let hub = Namespace::create()?;
        hub.ip(&["link", "set", "lo", "up"])?;
        // Without snooping the switch has nothing of its own to say to the hosts (IGMP).
        hub.ip(&["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        hub.ip(&["addr", "add", &format!("{HUB_V4}/24"), "dev", "br0"])?;
        hub.ip(&["addr", "add", &format!("{HUB_V6}/64"), "dev", "br0", "nodad"])?;
        hub.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { hub, hosts: 0 })
    }

    /// Attaches a new host, whose name appears in errors only.
    ///
    /// # Errors
    /// [`LabError`]; a lab has room for 253 hosts.
    pub fn host(&mut self, name: &str) -> Result<Host, LabError> {
        if self.hosts == MOST_HOSTS {
            return Err(LabError::Full);
        }
        self.hosts += 1;
        let number = self.hosts;
        let host = Host {
            name: name.to_owned(),
            ipv4: Ipv4Addr::new(10, 77, 0, number),
            ipv6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()),
            switch_port: format!("port{number}"),
            namespace: Namespace::create()?,
        };
        host.connect(&self.hub)?;
        Ok(host)
    }

    /// The namespace of the switch: every frame between two hosts passes here.
    #[must_use]
    pub fn hub(&self) -> &Namespace {
        &self.hub
    }
}

/// A network namespace with `lo` and `eth0`, attached to the switch.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    switch_port: String,
    namespace: Namespace,
}

impl Host {
    /// For a user who may not make networks: a loopback address (127.0.0.`number`) in the one that is there.
    #[must_use]
    pub fn on_loopback(name: &str, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            ipv4: Ipv4Addr::new(127, 0, 0, number),
            ipv6: Ipv6Addr::LOCALHOST,
            switch_port: "lo".to_owned(),
            namespace: Namespace::here(),
        }
    }

    fn connect(&self, hub: &Namespace) -> Result<(), LabError> {
        let port = self.switch_port.as_str();
        let to_here = self.namespace.path()?;
        hub.ip(&["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &to_here])?;
        hub.ip(&["link", "set", port, "master", "br0", "up"])?;
        let here = &self.namespace;
        here.ip(&["link", "set", "lo", "up"])?;
        // Set by hand and unique, so the address may be used at once: nobody waits for duplicate detection.
        here.ip(&["addr", "add", &format!("{}/64", self.ipv6), "dev", "eth0", "nodad"])?;
        here.ip(&["addr", "add", &format!("{}/24", self.ipv4), "dev", "eth0"])?;
        here.ip(&["link", "set", "eth0", "up"])?;
        here.ip(&["route", "add", "default", "via", &HUB_V4.to_string()])?;
        here.ip(&["-6", "route", "add", "default", "via", &HUB_V6.to_string()])
    }

    /// The name given at creation.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of `eth0`.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// The address of `eth0`.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// Both addresses of `eth0`, for what must hold in either family.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }

    /// The interface in [`Lab::hub`] that all frames from and to this host cross.
    #[must_use]
    pub fn switch_port(&self) -> &str {
        &self.switch_port
    }

    /// The host's network.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Runs code in the host's network, on a thread of its own. What it opens there (sockets) may be used anywhere.
    ///
    /// # Errors
    /// [`LabError`] when the namespace cannot be entered. A panic of `job` continues in the caller.
    pub fn in_namespace<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.namespace.run(job)
    }

    /// A program to be started in the host's network.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> HostCommand {
        HostCommand::new(self.namespace.clone(), &self.name, program)
    }
}
