//! One keep-alive connection, and what counts as a good answer on it.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::http::uri::Scheme;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Longest answer read, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest piece of an answer shown, in characters.
const MAX_SHOWN: usize = 300;
/// Comes back in the answer, and so tells whose answer it is.
const REQUEST_ID: &str = "x-request-id";

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer's body: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("status {0}: {1}")]
    Status(u16, String),
    #[error("not the answer to this request: {0}")]
    WrongAnswer(String),
    #[error("no answer in time")]
    Timeout,
}

impl Failure {
    /// The key to count it under: a bounded set.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Connect(_) => "connect".into(),
            Self::Http(_) => "http".into(),
            Self::Body(_) => "body".into(),
            Self::Status(status, _) => format!("status {status}"),
            Self::WrongAnswer(_) => "wrong answer".into(),
            Self::Timeout => "timeout".into(),
        }
    }
}

/// Where the requests go.
pub(crate) struct Target {
    /// `HOST:PORT`, for the connection.
    address: String,
    /// As the URL has it, for the `Host` header.
    authority: String,
    path: String,
}

impl Target {
    pub(crate) fn new(url: &Uri) -> Result<Self, &'static str> {
        let authority = url.authority().ok_or("wanted: http://HOST:PORT/PATH")?;
        if url.scheme() != Some(&Scheme::HTTP) {
            return Err("only http is spoken here: TLS is the sidecar's");
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        Ok(Self { address, authority: authority.to_string(), path: url.path().to_owned() })
    }
}

/// A connection that is opened when needed and kept as long as the server keeps it.
pub(crate) struct Client<'a> {
    target: &'a Target,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<'a> Client<'a> {
    pub(crate) fn new(target: &'a Target) -> Self {
        Self { target, connection: None }
    }

    /// Sends request `number` and checks the answer; gives the hash of the caller's certificate that the service saw.
    pub(crate) async fn get(&mut self, number: u64) -> Result<Option<String>, Failure> {
        let answer = self.exchange(number).await;
        if answer.is_err() {
            self.disconnect();
        }
        answer
    }

    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn exchange(&mut self, number: u64) -> Result<Option<String>, Failure> {
        let request = Request::get(&self.target.path)
            .header(HOST, &self.target.authority)
            .header(REQUEST_ID, number)
            .body(Empty::new())
            .map_err(|error| Failure::Body(error.into()))?;
        let response = self.ready().await?.send_request(request).await?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(Failure::Body)?.to_bytes();
        if !status.is_success() {
            return Err(Failure::Status(status.as_u16(), shown(&body)));
        }
        check_answer(&body, &self.target.path, number)
    }

    /// The kept connection, unless the server has closed it since.
    async fn ready(&mut self) -> Result<&mut SendRequest<Empty<Bytes>>, Failure> {
        let kept = match self.connection.take() {
            Some(mut connection) => connection.sender.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.target.address).await?,
        };
        Ok(&mut self.connection.insert(connection).sender)
    }
}

async fn connect(address: &str) -> Result<Connection, Failure> {
    let stream = TcpStream::connect(address).await.map_err(Failure::Connect)?;
    stream.set_nodelay(true).map_err(Failure::Connect)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What ends the connection shows in the request that was on it.
    let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok(Connection { sender, driver })
}

/// The answer must be `hello-service`'s to this very request.
fn check_answer(body: &[u8], path: &str, number: u64) -> Result<Option<String>, Failure> {
    let wrong = || Failure::WrongAnswer(shown(body));
    let answer: Value = serde_json::from_slice(body).map_err(|_| wrong())?;
    let id = answer.get("headers").and_then(|headers| headers.get(REQUEST_ID)).and_then(Value::as_str);
    let same_path = answer.get("path").and_then(Value::as_str) == Some(path);
    if !same_path || id != Some(number.to_string().as_str()) {
        return Err(wrong());
    }
    Ok(answer.get("peer").and_then(Value::as_str).and_then(certificate_hash).map(str::to_owned))
}

/// `Hash` of an `x-forwarded-client-cert` header: `By=...;Hash=...;URI=...`.
fn certificate_hash(header: &str) -> Option<&str> {
    header.split([';', ',']).find_map(|part| part.trim().strip_prefix("Hash="))
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_taken_from_the_header_of_the_sidecar() {
        let header = "By=spiffe://td/ns/a/sa/b;Hash=00ff;URI=spiffe://td/ns/a/sa/c";
        assert_eq!(certificate_hash(header), Some("00ff"));
        assert_eq!(certificate_hash("URI=spiffe://td/Hash=x"), None);
        assert_eq!(certificate_hash(""), None);
    }

    #[test]
    fn only_the_answer_to_this_very_request_is_good() {
        let answer = br#"{"path":"/","headers":{"x-request-id":"7"},"peer":"Hash=aa"}"#;
        assert_eq!(check_answer(answer, "/", 7).unwrap().as_deref(), Some("aa"));
        let without_peer = br#"{"path":"/","headers":{"x-request-id":"7"},"peer":null}"#;
        assert_eq!(check_answer(without_peer, "/", 7).unwrap(), None);
        for (body, path, number) in [
            (&answer[..], "/", 8),
            (answer, "/other", 7),
            (b"", "/", 7),
            (b"{}", "/", 7),
            (b"hello", "/", 7),
            (&answer[..answer.len() - 1], "/", 7),
        ] {
            let failure = check_answer(body, path, number).unwrap_err();
            assert!(matches!(failure, Failure::WrongAnswer(_)), "{failure}");
        }
    }

    #[test]
    fn a_target_is_plain_http() {
        let target = |url: &'static str| Target::new(&Uri::from_static(url));
        let good = target("http://[::1]:8080/x?y").unwrap();
        assert_eq!((good.address.as_str(), good.path.as_str()), ("[::1]:8080", "/x"));
        assert_eq!(target("http://host").unwrap().address, "host:80");
        assert!(target("https://host/").is_err());
        assert!(target("/path").is_err());
    }
}
