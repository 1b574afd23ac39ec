//! How a server is chosen among the endpoints of a destination, and when one is left out for a while.

use std::time::Duration;

/// `loadBalancer.simple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balancer {
    /// Each in turn.
    RoundRobin,
    /// Of two picked at random, the one with fewer requests under way.
    #[default]
    LeastRequest,
    /// At random.
    Random,
}

/// `outlierDetection`: a server that fails is left out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Server errors (500 to 599, and no answer) in a row until a server is left out; `None`: never for that.
    pub consecutive_5xx: Option<u32>,
    /// Gateway errors (502 to 504, and no answer) in a row; `None`: never for that.
    pub consecutive_gateway: Option<u32>,
    /// How often the servers left out are looked through.
    pub interval: Duration,
    /// How long a server is left out the first time; the second time twice as long, and so on.
    pub base_ejection: Duration,
    /// At most so many of the servers are left out at a time; one may always be.
    pub max_ejection_percent: u8,
    /// Below so many that are not left out, all are used again.
    pub min_health_percent: u8,
}
