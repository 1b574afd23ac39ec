//! From the first certificate to the last connection: what begins, renews, expires, drains and comes back.

mod descriptors;
mod drain;
mod exceptions;
mod expiry;
mod readiness;
mod recovery;
mod restart;

use std::time::Duration;

use portcullis::demo::lab::{Host, HostCommand};
use portcullis_identity::Clock;
use portcullis_tests::mesh::{curl, metrics};

/// For anything that a sidecar does by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Since the epoch.
fn now() -> Duration {
    Clock::system().now()
}

/// Asks again until there is an answer.
fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < give_up, "{what}: not within {PATIENCE:?}");
    }
}

/// The value of a metric; `name` with its labels. 0 when nothing was counted yet.
fn metric(host: &Host, name: &str) -> f64 {
    let page = metrics(host);
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// Status and body of a request; `000` without an answer. `command` is `curl`, as whoever asks.
fn ask(command: HostCommand, url: &str) -> (String, String) {
    let answer = curl(command, &["-w", "\n%{http_code}", url]).stdout;
    let (body, status) = answer.trim_end().rsplit_once('\n').unwrap_or(("", answer.trim_end()));
    (status.to_owned(), body.trim_end().to_owned())
}

/// When the certificate of the sidecar on a host ends, since the epoch.
fn certificate_end(host: &Host) -> Duration {
    Duration::from_secs_f64(metric(host, "portcullis_certificate_expiry_seconds"))
}

/// Waits for a new certificate on each of `hosts`, so that there is as much time as it gives.
fn freshly_renewed(hosts: [&Host; 2], at_least: Duration) {
    poll("certificates renewed at about the same time", || {
        hosts.iter().all(|host| certificate_end(host) >= now() + at_least).then_some(())
    });
}
