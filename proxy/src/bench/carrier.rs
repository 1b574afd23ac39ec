//! Who carries the load to the upstream, as the measuring sees it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use http::Uri;

use super::error::BenchError;
use super::grid::Limits;
use super::watch::Gauge;

/// A pair of proxies, ours or others, or somebody's URL.
pub trait Carrier {
    /// Where load for this setting goes, and the Host header if it is other than the URL's.
    ///
    /// # Errors
    /// When there is no such setting.
    fn way(&self, limits: &Limits) -> Result<Way, BenchError>;

    /// Where the pool of this setting can be looked into, if it can.
    fn gauge(&self, limits: &Limits) -> Option<Gauge>;

    /// The processes that are charged for the load.
    fn processes(&self) -> Vec<i32>;

    /// Fails once one of them has ended.
    ///
    /// # Errors
    /// [`BenchError::Died`].
    fn alive(&self) -> Result<(), BenchError>;
}

/// Where load goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// `http://HOST:PORT/PATH`.
    pub url: Uri,
    /// The Host header, if it is other than the URL's.
    pub host: Option<String>,
}

impl Way {
    /// To `address`, for `host`.
    pub(super) fn to(address: SocketAddr, host: Option<String>) -> Result<Self, BenchError> {
        let url = Uri::builder().scheme("http").authority(address.to_string()).path_and_query("/").build();
        let url = url.map_err(|error| BenchError::Io {
            what: format!("the URL of {address}"),
            source: std::io::Error::other(error),
        })?;
        Ok(Self { url, host })
    }
}

/// What belongs to each of a few settings.
pub(super) fn of<'a, T>(places: &'a [(Limits, T)], limits: &Limits) -> Result<&'a T, BenchError> {
    let found = places.iter().find(|(other, _)| other == limits).map(|(_, place)| place);
    found.ok_or_else(|| BenchError::Io {
        what: format!("no listener is set up for {limits:?}"),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// An address of this machine that hardly anybody else listens on: 127.0.0.N.
pub(super) fn own_loopback() -> u8 {
    rand::random_range(2..=250)
}

/// Ports of 127.0.0.`number` that are free now. As connections leave from 127.0.0.1, none of them takes one.
pub(super) fn free_ports(number: u8, count: usize) -> Result<Vec<SocketAddr>, BenchError> {
    let bind = || TcpListener::bind((Ipv4Addr::new(127, 0, 0, number), 0));
    // All are held until the last is found, so that none is found twice.
    let held: Result<Vec<_>, _> = (0..count).map(|_| bind()).collect();
    let addresses = held.and_then(|held| held.iter().map(TcpListener::local_addr).collect());
    addresses.map_err(BenchError::io("no free port on loopback"))
}
