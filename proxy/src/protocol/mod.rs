//! The protocols that connections carry once identity is settled: HTTP/1.1 and opaque TCP.

pub mod detect;
pub mod headers;
pub mod http1;
pub mod tcp;
