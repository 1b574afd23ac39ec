//! An app that would rather do without its sidecar.

use super::super::error::{DemoError, ensure};
use super::super::probe::{self, FarEnd, Reply};
use super::super::show::Show;
use super::super::site::Site;

/// Where the far end listens: a port that no sidecar has.
pub(crate) const PORT: u16 = 9999;

/// A line for each way out.
pub(crate) fn attempts(site: &Site, far: &FarEnd, show: &mut Show) {
    let [v4, v6] = far.addresses();
    for (claim, to) in [("dialling a host directly, as a user of its own", v4), ("the same over IPv6", v6)] {
        show.line(&format!("{claim}: refused"), unheard(far, || tcp(site, &format!("http://{to}/"))));
    }
    for (claim, to) in [("UDP, as QUIC would", v4), ("the same over IPv6", v6)] {
        show.line(&format!("{claim}: dropped"), unheard(far, || probe::datagram(&site.day.client.host, to)));
    }
    let doors = [15006, 15001].map(|port| site.day.door(port));
    for to in doors {
        let claim = format!("straight to port {} of the other sidecar: refused", to.port());
        show.line(&claim, tcp(site, &format!("http://{to}/")));
    }
    let at_the_door = probe::get(&site.intruder, site.day.door(15006), "anyone", "/");
    show.line("and the intruder straight to port 15006: nothing", at_the_door.and_then(Reply::refused));
}

/// As the app's user, through `load`: one request.
fn tcp(site: &Site, url: &str) -> Result<String, DemoError> {
    let report = probe::report(&site.day.app_load(url, 1, 1)?, probe::PROGRAM)?;
    let (ok, failed) = (probe::count(&report, "ok"), probe::count(&report, "failed"));
    ensure((ok, failed) == (0, 1), || format!("it was answered: {report}"))?;
    Ok(probe::failures(&report))
}

/// Refused, and the far end has heard nothing.
fn unheard(far: &FarEnd, attempt: impl FnOnce() -> Result<String, DemoError>) -> Result<String, DemoError> {
    far.arrivals()?;
    let evidence = attempt()?;
    let (tcp, udp) = far.arrivals()?;
    ensure(tcp + udp == 0, || format!("{tcp} connections and {udp} datagrams have arrived"))?;
    Ok(format!("{evidence}; nothing arrived"))
}
