//! Asks a running sidecar, over its admin socket or port. Everything has a deadline and a bound: whatever listens
//! there may be something else.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Failure;
use crate::config::{self, Admin};

/// Where a sidecar serves administration unless its bootstrap file says otherwise.
const DEFAULT: &str = "127.0.0.1:15000";
/// From connecting to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// Bytes of an answer that an error message quotes.
const MAX_QUOTED: usize = 80;

/// Which sidecar is asked, and how its answer is shown.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The sidecar's admin address: IP:PORT, or unix:PATH [default: what --config says, else 127.0.0.1:15000]
    #[arg(long, value_name = "ADDR", value_parser = parse, conflicts_with = "config")]
    admin: Option<Admin>,
    /// The sidecar's bootstrap file, to learn the admin address from
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to show it: table or json
    #[arg(long, value_enum, default_value_t = Output::Table, hide_possible_values = true)]
    pub output: Output,
}

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error(
        "no sidecar answers at {at}: {source}; is it running on this host (or in this network namespace), and is that \
         its `admin` address? Say which with --admin or --config"
    )]
    Unreachable {
        /// Where.
        at: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Somebody is there, and says nothing useful in time.
    #[error("no answer from {at} within {} s: what listens there may be no sidecar, or one that hangs", DEADLINE.as_secs())]
    Late {
        /// Where.
        at: String,
    },
    /// Somebody else is there.
    #[error("what listens at {at} is no sidecar of this version: {what}")]
    Stranger {
        /// Where.
        at: String,
        /// What it said instead.
        what: String,
    },
}

/// `IP:PORT` or `unix:PATH`.
fn parse(text: &str) -> Result<Admin, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err("write unix:PATH".to_owned())
        } else {
            Ok(Admin::Unix(path.into()))
        };
    }
    text.parse()
        .map(Admin::Tcp)
        .map_err(|_| "write IP:PORT, such as 127.0.0.1:15000, or unix:PATH".to_owned())
}

impl AdminArgs {
    /// Where the sidecar is.
    ///
    /// # Errors
    /// [`Failure::Unusable`] with every fault of the bootstrap file.
    fn address(&self) -> Result<Admin, Failure> {
        match (&self.admin, &self.config) {
            (Some(admin), _) => Ok(admin.clone()),
            (None, Some(file)) => {
                let bootstrap = config::load_bootstrap(file);
                bootstrap.map(|bootstrap| bootstrap.admin).map_err(|why| Failure::Unusable(why.to_string()))
            }
            (None, None) => parse(DEFAULT).map_err(Failure::Unusable),
        }
    }

    /// What the sidecar says at `path`.
    ///
    /// # Errors
    /// [`Failure::Unusable`]: there is nothing to show.
    pub fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let address = self.address()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
        runtime.block_on(ask(&address, path)).map_err(|error| Failure::Unusable(error.to_string()))
    }
}

struct At<'a>(&'a Admin);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Admin::Tcp(addr) => addr.fmt(f),
            Admin::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One question, one answer.
async fn ask<T: DeserializeOwned>(admin: &Admin, path: &str) -> Result<T, AskError> {
    let at = At(admin).to_string();
    let unreachable = |source| AskError::Unreachable { at: at.clone(), source };
    let stranger = |what: String| AskError::Stranger { at: at.clone(), what };
    let answered = async {
        let answer = match admin {
            Admin::Tcp(addr) => get(TcpStream::connect(addr).await.map_err(unreachable)?, path).await,
            Admin::Unix(socket) => get(UnixStream::connect(socket).await.map_err(unreachable)?, path).await,
        };
        answer.map_err(stranger)
    };
    let answer = timeout(DEADLINE, answered).await.map_err(|_| AskError::Late { at: at.clone() })??;
    serde_json::from_slice(&answer).map_err(|error| stranger(format!("{error} in {}", quoted(&answer))))
}

/// The body of a 200.
async fn get<IO>(io: IO, path: &str) -> Result<Bytes, String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let not_http = |error: hyper::Error| format!("its answer is not HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(not_http)?;
    let request = Request::get(path).header(header::HOST, "portcullis").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(not_http)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("its answer breaks off: {error}"))?.to_bytes();
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(format!("it answers {path} with {status}: {}", quoted(&body)))
        }
    };
    tokio::pin!(connection);
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection may end with the answer already here.
        _ = &mut connection => answered.await,
    }
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..MAX_QUOTED).unwrap_or(bytes)).into_owned();
    let more = if bytes.len() > MAX_QUOTED { "..." } else { "" };
    format!("{text:?}{more}")
}

/// For a terminal: nothing in it moves the cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::status::Refusals;

    /// Somebody who answers whatever is asked with `answer`, and then stays or leaves.
    async fn somebody(answer: &'static [u8], stays: bool) -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            if stays {
                let _left = stream.read(&mut asked).await;
            }
        });
        Admin::Tcp(addr)
    }

    async fn error(admin: &Admin) -> String {
        ask::<Refusals>(admin, "/refusals").await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_answer_is_read_and_whoever_closes_after_it_has_answered() {
        let empty = b"HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{\"recent\":[],\"unlisted\":3}\n";
        for stays in [true, false] {
            let refusals: Refusals = ask(&somebody(empty, stays).await, "/refusals").await.unwrap();
            assert_eq!(refusals, Refusals { recent: vec![], unlisted: 3 });
        }
    }

    #[tokio::test]
    async fn nobody_is_named_with_what_to_do() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let text = error(&Admin::Tcp(free)).await;
        assert!(text.starts_with(&format!("no sidecar answers at {free}: ")), "{text}");
        assert!(text.contains("--admin") && text.contains("refused"), "{text}");
        let text = error(&Admin::Unix("/nonexistent/admin".into())).await;
        assert!(text.starts_with("no sidecar answers at unix:/nonexistent/admin: No such file"), "{text}");
    }

    #[tokio::test]
    async fn a_stranger_is_told_from_a_sidecar_and_quoted_harmlessly() {
        for (answer, wanted) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "its answer is not HTTP"),
            (b"", "its answer is not HTTP"),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope", "404 Not Found: \"nope\""),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\x1b[2J<p>!", "in \"\\u{1b}[2J<p>!\""),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "missing field"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "its answer breaks off"),
        ] {
            let text = error(&somebody(answer, false).await).await;
            assert!(text.contains("is no sidecar of this version") && text.contains(wanted), "{text}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = error(&Admin::Tcp(listener.local_addr().unwrap())).await;
        assert!(text.contains("within 5 s"), "{text}");
    }

    #[test]
    fn an_address_is_a_socket_or_a_path() {
        assert_eq!(parse("127.0.0.1:15000"), Ok(Admin::Tcp("127.0.0.1:15000".parse().unwrap())));
        assert_eq!(parse("unix:/run/admin"), Ok(Admin::Unix("/run/admin".into())));
        for bad in ["", "localhost", "unix:", "15000"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
