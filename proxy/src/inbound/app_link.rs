//! The app's end of one inbound HTTP connection: one connection to the app for one from the peer, so that
//! what an app sees of keep-alive is what its caller does.

use std::fmt;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::authz::Permit;
use crate::drain::Drain;
use crate::protocol::http1::{Connection, SendFailure};
use crate::refusal::Refusal;
use crate::upstream::{self, AppAddr};

/// See the module.
pub(super) struct AppLink {
    addr: AppAddr,
    drain: Drain,
    state: Mutex<State>,
}

enum State {
    Closed,
    Dialled(TcpStream),
    Open(Connection),
}

impl AppLink {
    /// A link that uses `dialled` first, and dials when it has none or the app closed it.
    pub(super) fn new(addr: AppAddr, dialled: Option<TcpStream>, drain: Drain) -> Self {
        let state = dialled.map_or(State::Closed, State::Dialled);
        Self { addr, drain, state: Mutex::new(state) }
    }

    /// Sends one request. Called again only when the response before has been read, as HTTP/1.1 has it.
    pub(super) async fn send(
        &self,
        permit: &Permit,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Refusal> {
        let mut state = self.state.lock().await;
        let mut retried = false;
        loop {
            let mut connection =
                self.connection(permit, std::mem::replace(&mut *state, State::Closed)).await?;
            match connection.send(request).await {
                Ok(response) => {
                    *state = State::Open(connection);
                    return Ok(response);
                }
                Err(SendFailure::Unsent(unsent, _)) if !retried => {
                    retried = true;
                    request = *unsent;
                }
                Err(SendFailure::Unsent(_, source) | SendFailure::Sent(source)) => {
                    return Err(Refusal::Broken { destination: self.to_string(), source });
                }
            }
        }
    }

    async fn connection(&self, permit: &Permit, state: State) -> Result<Connection, Refusal> {
        let dialled = match state {
            State::Open(mut connection) => {
                if connection.is_usable().await {
                    return Ok(connection);
                }
                None
            }
            State::Dialled(stream) => Some(stream),
            State::Closed => None,
        };
        let stream = match dialled {
            Some(stream) => stream,
            None => upstream::connect_app(permit, self.addr).await?,
        };
        let broken = |source| Refusal::Broken { destination: self.to_string(), source };
        let (connection, driver) = Connection::new(stream).await.map_err(broken)?;
        // An error here is also the error of the request under way, which reports it.
        self.drain.spawn(async move {
            let _ = driver.await;
        });
        Ok(connection)
    }
}

impl fmt::Display for AppLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the app at {}", self.addr.get())
    }
}
