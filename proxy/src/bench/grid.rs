//! The settings and loads of a sweep.

use serde::{Deserialize, Serialize};

/// The limits of a DestinationRule's `connectionPool` that are swept; `None` where it sets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// `tcp.maxConnections`.
    pub max_connections: Option<u32>,
    /// `http.http1MaxPendingRequests`.
    pub max_pending: Option<u32>,
    /// `http.http2MaxRequests`: requests under way, over HTTP/1.1 too.
    pub max_requests: Option<u32>,
}

/// Whose sidecars carry the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// Ours.
    Portcullis,
    /// Envoy, for comparison.
    Envoy,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// By whom the limits are kept.
    pub proxy: Proxy,
    /// The limits.
    pub limits: Limits,
    /// Offered load, in requests per second.
    pub rate: u32,
}

/// Every combination is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grid {
    /// Values of `maxConnections`.
    pub max_connections: Vec<Option<u32>>,
    /// Values of `http1MaxPendingRequests`.
    pub max_pending: Vec<Option<u32>>,
    /// Values of `http2MaxRequests`.
    pub max_requests: Vec<Option<u32>>,
    /// Offered loads, in requests per second.
    pub rates: Vec<u32>,
}

impl Grid {
    /// Every setting of the limits, in ascending order, without repetition.
    #[must_use]
    pub fn settings(&self) -> Vec<Limits> {
        let mut settings = Vec::new();
        for max_connections in &self.max_connections {
            for max_pending in &self.max_pending {
                for max_requests in &self.max_requests {
                    let (max_connections, max_pending) = (*max_connections, *max_pending);
                    settings.push(Limits { max_connections, max_pending, max_requests: *max_requests });
                }
            }
        }
        settings.sort_by_key(Limits::order);
        settings.dedup();
        settings
    }
}

impl Limits {
    /// From tight to loose; no limit is the loosest.
    #[must_use]
    pub fn order(&self) -> [u32; 3] {
        [self.max_connections, self.max_pending, self.max_requests].map(|limit| limit.unwrap_or(u32::MAX))
    }
}
