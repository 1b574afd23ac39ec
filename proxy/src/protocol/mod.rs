//! The protocols that connections carry once identity is settled: HTTP/1.1, HTTP/2 and opaque TCP.

pub mod body;
pub mod client;
pub mod detect;
pub mod grpc;
pub mod headers;
pub mod http;
pub mod http1;
mod http2;
pub mod tcp;
pub mod upgrade;
