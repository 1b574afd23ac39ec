//! `portcullis bench pool`: what connection-pool limits do to a service under load.
//!
//! A sweep measures every point of a grid ([`grid`]): one setting of the limits, at one offered load, through a pair of
//! sidecars ([`site`]), and for comparison through a pair of Envoys ([`envoy`]). Load is sent at a constant rate whatever
//! becomes of it ([`load`]), to an upstream whose latency and concurrency are known ([`upstream`]). Each measured point
//! ([`run`], [`result`]) is written down at once ([`journal`]); the report ([`report`]) is made from all of them, with the
//! setting that meets a goal ([`recommend`]).

pub mod carrier;
pub mod envoy;
pub mod error;
pub mod grid;
pub mod journal;
pub mod load;
pub mod progress;
pub mod recommend;
pub mod report;
pub mod result;
pub mod run;
pub mod site;
pub mod sweep;
pub mod target;
mod timer;
pub mod upstream;
pub mod watch;
