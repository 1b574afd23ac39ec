//! Requests and streams of an app, through the rules, to servers on loopback.

mod failing;
mod mirrors;
mod overflow;
mod resolved;
mod routes;
mod server;
mod settings;
mod stale;
mod wire;
