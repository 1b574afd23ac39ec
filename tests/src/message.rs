//! HTTP/1.1 messages, read from a connection byte for byte: a library would hide who read what, and when.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const END_OF_CHUNKS: &[u8] = b"0\r\n\r\n";

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its first line.
    pub start: String,
    /// Names in lower case, and values.
    pub fields: Vec<(String, String)>,
    /// Without the framing, if its length was declared; with it, if it came in chunks.
    pub body: Vec<u8>,
}

impl Message {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The second word of the first line: a status, or a request's target.
    #[must_use]
    pub fn word(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads one; `buffer` holds what was read and belongs to no message yet, also after an error.
    ///
    /// # Errors
    /// Those of the connection, and `UnexpectedEof` when it ends before the message does.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Self> {
        let head = loop {
            if let Some(at) = find(buffer, END_OF_HEAD) {
                break at + END_OF_HEAD.len();
            }
            more(stream, buffer).await?;
        };
        let mut message = Self::head(&String::from_utf8_lossy(buffer.get(..head).unwrap_or_default()));
        let declared = message.field("content-length").and_then(|length| length.parse::<usize>().ok());
        let end = if let Some(length) = declared {
            while buffer.len() < head + length {
                more(stream, buffer).await?;
            }
            head + length
        } else if message.field("transfer-encoding").is_some() {
            loop {
                if let Some(at) = find(buffer.get(head..).unwrap_or_default(), END_OF_CHUNKS) {
                    break head + at + END_OF_CHUNKS.len();
                }
                more(stream, buffer).await?;
            }
        } else {
            head
        };
        message.body = buffer.drain(..end).skip(head).collect();
        Ok(message)
    }

    fn head(text: &str) -> Self {
        let mut lines = text.lines();
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Self { start, fields: fields.collect(), body: Vec::new() }
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_told_apart_and_a_part_of_one_is_kept() {
        let mut wire: &[u8] =
            b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 503 No\r\nX-A: b\r\n\r\n\
            HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /cut";
        let mut buffer = Vec::new();
        let post = Message::read(&mut wire, &mut buffer).await.unwrap();
        assert_eq!((post.word(), post.body.as_slice()), ("/a", b"abc".as_slice()));
        let answer = Message::read(&mut wire, &mut buffer).await.unwrap();
        assert_eq!((answer.word(), answer.field("x-a")), ("503", Some("b")));
        assert_eq!(Message::read(&mut wire, &mut buffer).await.unwrap().body, b"2\r\nab\r\n0\r\n\r\n");
        let cut = Message::read(&mut wire, &mut buffer).await.unwrap_err();
        assert_eq!((cut.kind(), buffer.as_slice()), (io::ErrorKind::UnexpectedEof, b"GET /cut".as_slice()));
    }
}
