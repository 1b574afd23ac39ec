//! What the rules let through, turn over to the proxy, and drop, in a network of their own.

mod datagrams;
mod direct;
mod older;
mod redirect;
mod table;

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portcullis::demo::lab::{Host, Lab, Process};
use portcullis::intercept::{Ruleset, Settings, apply};
use portcullis_tests::as_user;

/// Far more than any of these tests takes.
const LIMIT: Duration = Duration::from_secs(60);
/// For what is expected to come.
const SOON: Duration = Duration::from_secs(10);
/// For what is expected not to come. Between two namespaces of one machine, what comes takes microseconds.
const NEVER: Duration = Duration::from_millis(300);
const APP: u32 = 1000;
const PROXY: u32 = 1337;
const CANARY: &[u8] = b"canary-2c1d9e0b";

/// A workload with interception, and a neighbour without.
struct Scene {
    lab: Lab,
    workload: Host,
    peer: Host,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new().expect("these tests need root");
        let workload = lab.host("workload").unwrap();
        let peer = lab.host("peer").unwrap();
        Self { lab, workload, peer }
    }

    fn apply(&self) {
        self.apply_with(Settings::default());
    }

    fn apply_with(&self, settings: Settings) {
        let rules = Ruleset::try_from(settings).unwrap();
        self.workload.in_namespace(|| apply(&rules)).unwrap().unwrap();
    }

    /// What listens on the proxy's ports, as the proxy's user.
    fn target(&self) -> Process {
        let program = self.workload.command(env!("CARGO_BIN_EXE_redirect-target"));
        let target = program.args(["15001", "15006"]).user(PROXY).spawn().unwrap();
        target.wait_for_line(|line| line == "ready", SOON).unwrap();
        target
    }

    fn nft(&self, arguments: &[&str]) -> String {
        self.workload.command("nft").args(arguments).check(SOON).unwrap()
    }

    /// All rules of the workload, without counters.
    fn rules(&self) -> String {
        self.nft(&["-s", "list", "ruleset"])
    }

    /// Address pairs of workload and peer, one of each family.
    fn families(&self) -> [(IpAddr, IpAddr); 2] {
        let ([w4, w6], [p4, p6]) = (self.workload.addresses(), self.peer.addresses());
        [(w4, p4), (w6, p6)]
    }
}

fn listen(host: &Host, user: u32, at: impl Into<SocketAddr>) -> TcpListener {
    let at = at.into();
    host.in_namespace(|| as_user(user, || TcpListener::bind(at))).unwrap().unwrap()
}

fn connect(host: &Host, user: u32, to: impl Into<SocketAddr>, within: Duration) -> io::Result<TcpStream> {
    let to = to.into();
    let stream = host.in_namespace(|| as_user(user, || TcpStream::connect_timeout(&to, within))).unwrap()?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    Ok(stream)
}

/// Connects and reads what the other side says before it closes.
fn ask(host: &Host, user: u32, to: impl Into<SocketAddr>) -> io::Result<String> {
    let mut answer = String::new();
    connect(host, user, to, SOON)?.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn assert_refused(host: &Host, user: u32, to: SocketAddr) {
    let refused = connect(host, user, to, SOON).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
}

#[track_caller]
fn assert_unanswered(host: &Host, user: u32, to: SocketAddr) {
    let unanswered = connect(host, user, to, NEVER).map(drop).unwrap_err();
    assert_eq!(unanswered.kind(), ErrorKind::TimedOut, "{to}");
}

/// What one side writes, the other reads.
#[track_caller]
fn assert_connected(from: &TcpStream, to: &TcpStream) {
    to.set_read_timeout(Some(SOON)).unwrap();
    for (mut writer, mut reader) in [(from, to), (to, from)] {
        io::Write::write_all(&mut writer, b"hello").unwrap();
        let mut read = [0; 5];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");
    }
}
