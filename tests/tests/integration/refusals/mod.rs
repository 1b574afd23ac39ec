//! Everything that must not get through: refused, said in the log (who, what, which rule), counted, and with the
//! next good request unharmed.

mod certificates;
mod forgery;
mod framing;
mod limits;
mod outbound;
mod strangers;

use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis::demo::programs::Sidecar;
use portcullis_tests::foreign::{Root, Shown, leaf_params};
use portcullis_tests::mesh::{HTTP, Mesh, Pair, Plan, metrics};

const LIMIT: Duration = Duration::from_secs(120);
/// For the log line about what has just been refused.
const LINE: Duration = Duration::from_secs(20);
const DAY: &str = "24h";
/// What makes the service's ports STRICT.
const STRICT: &str = "PeerAuthentication production/default";
/// Short, so that silence is found out soon.
const IMPATIENT: &str = "limits: {handshakeTimeout: 2s, detectionTimeout: 2s}\n";

/// A pair whose root's key is at hand, and a host beside it that has no sidecar.
struct Siege {
    root: Root,
    pair: Pair,
    outsider: Host,
}

impl Siege {
    fn begin() -> Self {
        Self::under(IMPATIENT)
    }

    /// With other lines in the bootstrap files.
    fn under(bootstrap: &str) -> Self {
        let root = Root::new("root");
        let mut mesh = Mesh::under(&root, DAY);
        let outsider = mesh.host("outsider");
        let plan = Plan { bootstrap, ..Plan::default() };
        let pair = Pair::in_mesh(mesh, &plan, &plan, |_| {});
        Self { root, pair, outsider }
    }

    /// A good leaf of the mesh for a client without sidecar.
    fn friend(&self) -> Shown {
        self.root.leaf(&leaf_params(FRIEND), 0)
    }

    /// What the outsider does is refused once by the service's sidecar; see [`refused`].
    fn refused<T>(&self, reason: &str, says: &[&str], attempt: impl FnOnce() -> T) -> T {
        let from = format!("refused: peer {}:", self.outsider.ipv4());
        let says = [&[from.as_str()], says].concat();
        refused(&self.pair.server, "inbound", reason, &says, attempt)
    }

    /// The positive control: the app answers its caller in the mesh. How many it has answered before, strangers
    /// included.
    fn served(&self) -> u64 {
        let url = format!("http://{}/count", self.pair.service(HTTP));
        let count = self.pair.curl(&["--fail", &url]);
        assert!(count.status.success(), "{}", count.stderr);
        count.stdout.trim().parse().unwrap()
    }
}

/// An identity that no policy speaks of, in the trust domain of the mesh.
const FRIEND: &str = "spiffe://cluster.local/ns/elsewhere/sa/friend";

/// `attempt` makes the sidecar count one refusal for `reason`, and write one line that has all of `says`.
fn refused<T>(
    sidecar: &Sidecar,
    direction: &str,
    reason: &str,
    says: &[&str],
    attempt: impl FnOnce() -> T,
) -> T {
    let labelled = format!(r#""reason":"{reason}""#);
    let is_it = |line: &str| line.contains(&labelled) && says.iter().all(|part| line.contains(part));
    let said_before = sidecar.log().lines().filter(|line| is_it(line)).count();
    let counted_before = refusals(sidecar, direction, reason);
    let result = attempt();
    let mut said = 0;
    let line = sidecar.line(
        |line| {
            said += usize::from(is_it(line));
            said > said_before
        },
        LINE,
    );
    assert!(line.is_ok(), "no line with {reason} and {says:?} in\n{}", sidecar.log());
    assert_eq!(refusals(sidecar, direction, reason), counted_before + 1, "{reason} {says:?}");
    result
}

/// What the counter of one reason says.
fn refusals(sidecar: &Sidecar, direction: &str, reason: &str) -> u64 {
    let name = format!(r#"portcullis_refusals_total{{direction="{direction}",reason="{reason}"}} "#);
    let metrics = metrics(&sidecar.host);
    assert!(metrics.contains("portcullis_ready "), "no metrics: {metrics}");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}
