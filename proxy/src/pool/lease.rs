//! The use of a connection: for one request, or for a TCP stream.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::http2::Stream;
use super::limit::Permit;
use super::link::{Facts, Link};
use super::state::Pool;
use crate::protocol::body::RequestBody;
use crate::protocol::client::{Connection, SendFailure};
use crate::upstream::Picked;

/// A place under `maxConnections` for one TCP connection, for as long as it is held.
pub struct Place {
    pub(super) _slot: Permit,
    pub(super) _socket: Permit,
    pub(super) _picked: Picked,
}

/// The use of one connection for one request. Goes back to the pool when the response has been read whole.
pub struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) via: Via,
    pub(super) picked: Picked,
    /// Handed on when the request is sent again over another connection.
    pub(super) active: Option<Permit>,
}

/// What is leased.
pub(super) enum Via {
    /// A whole connection, and the slot that it is used under.
    Http1(Link, Permit),
    /// One stream.
    Http2(Stream),
}

impl Via {
    pub(super) fn facts(&self) -> &Facts {
        match self {
            Self::Http1(link, _) => &link.facts,
            Self::Http2(stream) => &stream.facts,
        }
    }

    /// Whether this is the first request on an HTTP/1.1 connection.
    pub(super) fn is_new(&self) -> bool {
        match self {
            Self::Http1(link, _) => link.requests == 0,
            Self::Http2(_) => false,
        }
    }
}

impl Lease {
    pub(super) fn facts(&self) -> &Facts {
        self.via.facts()
    }

    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        let connection: &mut Connection = match &mut self.via {
            Via::Http1(link, _) => &mut link.connection,
            Via::Http2(stream) => &mut stream.connection,
        };
        connection.send(request).await
    }

    /// Gives the connection back for the next request.
    pub fn give_back(self) {
        let Self { pool, via, picked, active } = self;
        // Before the next one is let in, this one is over.
        drop((picked, active));
        match via {
            Via::Http1(link, slot) => {
                pool.take_back(link);
                // Only now, with the connection already idle.
                drop(slot);
            }
            Via::Http2(stream) => drop(stream),
        }
    }
}
