//! A connection to a port that nobody has declared a protocol for: the side that speaks first tells it.
//!
//! What passes as bytes passes with whatever identity the caller writes into it, so what could be a server of HTTP
//! does not settle that it is bytes: then its caller has to speak.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use crate::authz::Verdict;
use crate::listen::OverTcp;
use crate::protocol::detect::{Prefixed, Protocol, is_no_http_server};
use crate::refusal::Refusal;
use crate::route::AppProtocol;
use crate::upstream;

impl Session {
    /// An app that speaks first in no word of HTTP's carries bytes; of a client's first bytes it is told what they are.
    /// The app is dialled to be listened to only when bytes are permitted whatever they say.
    pub(super) async fn carry_undeclared<IO>(
        self: &Arc<Self>,
        mut stream: Prefixed<IO>,
    ) -> Result<(), Refusal>
    where
        IO: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    {
        let permitted = match self.admitted.verdict(&self.inbound.policy.load()) {
            Verdict::Permitted => Some(self.stream_permit()?),
            Verdict::Denied | Verdict::DependsOnRequest => None,
        };
        let app_stream = match &permitted {
            Some(permit) => Some(upstream::connect_app(permit, self.app).await?),
            None => None,
        };
        let app_speaks = async {
            match &app_stream {
                Some(app_stream) => is_no_http_server(app_stream).await,
                None => std::future::pending().await,
            }
        };
        let detected = tokio::select! {
            detected = self.detect(&mut stream) => detected?,
            // A socket that broke ends the copying too.
            _ = app_speaks => Some(Protocol::Tcp),
        };
        match detected {
            Some(Protocol::Http(version)) => {
                self.carry_http(stream, version, AppProtocol::Undeclared, app_stream).await;
                Ok(())
            }
            Some(Protocol::Tcp) => {
                let permit = self.stream_permit()?;
                let Some(app_stream) = app_stream else {
                    return Err(
                        self.wrong_protocol("HTTP, which its AuthorizationPolicy judges", "something else")
                    );
                };
                self.carry_bytes(stream, app_stream, &permit).await
            }
            None => Ok(()),
        }
    }
}
