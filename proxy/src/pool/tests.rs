//! Pools against servers over loopback, with real TLS; connections are counted by the servers.

mod http1;
mod http2;
mod limit;
mod limits;
mod reload;
mod servers;
