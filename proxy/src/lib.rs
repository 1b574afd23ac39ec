//! Portcullis, the mTLS sidecar: interception, identity and policy beside one service.
//!
//! Layers, lower never importing higher (a test holds them to it):
//!
//! | layer | modules | what |
//! |---|---|---|
//! | L0 | `addr`, `drain`, `latest`, `lifetime`, `metrics`, `sys`, `throttle` | names, shutdown, values replaced as a whole, the end of a connection, counters, bounds on logging, the only unsafe |
//! | L1 | `listen`, `intercept`, `tls`, `svid` | accept; original destination; handshakes; the own identity |
//! | L2 | `authz`, `route` | pure functions: may this peer in, and where does this request go |
//! | L3 | `protocol`, `pool`, `upstream`, `refusal`, `access` | HTTP/1.1, HTTP/2, upgrades and TCP; exact limits; dialling; why not, and the log |
//! | L4 | `inbound`, `outbound` | one file each tells a connection's whole story |
//! | L5 | `config`, `status`, `verify`, `admin`, `app`, `bench`, `cli`, `demo` | files to validated types, what is told of them, checks from outside, and the binary |
//!
//! Start with [`inbound`] and [`outbound`].

pub mod access;
pub mod addr;
pub mod admin;
pub mod app;
pub mod authz;
pub mod bench;
pub mod cli;
pub mod config;
pub mod demo;
pub mod drain;
pub mod inbound;
pub mod intercept;
pub mod latest;
pub mod lifetime;
pub mod listen;
pub mod metrics;
pub mod outbound;
pub mod pool;
pub mod protocol;
pub mod refusal;
pub mod route;
pub mod status;
pub mod svid;
pub mod sys;
pub mod throttle;
pub mod tls;
pub mod upstream;
pub mod verify;
