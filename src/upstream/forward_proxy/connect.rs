//! CONNECT (RFC 9110 section 9.3.6): the request for a tunnel and its response.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::TunnelError;
use crate::codec::h1::{BodyFraming, HeadReader, write_request_head};
use crate::codec::head::Headers;

/// The largest number of bytes of one read of the response. The limit of the head is
/// [`crate::codec::h1::MAX_HEAD`].
const READ: usize = 4 * 1024;

/// The request for a tunnel to one target, serialized once at start.
pub struct Connect {
    head: Bytes,
}

impl Connect {
    /// `host` is a name, or an address without brackets. `headers` are for the forward proxy,
    /// `credentials` is the value of `Proxy-Authorization`.
    pub fn new(
        host: &str,
        port: u16,
        headers: &[(HeaderName, HeaderValue)],
        credentials: Option<&HeaderValue>,
    ) -> Self {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut own = Headers::default();
        own.append(b"host", target.as_bytes());
        let credentials = credentials.map(|value| (&header::PROXY_AUTHORIZATION, value));
        for (name, value) in credentials.into_iter().chain(headers.iter().map(|(name, value)| (name, value)))
        {
            own.append(name.as_str().as_bytes(), value.as_bytes());
        }
        let mut head = Vec::new();
        let write_headers = |out: &mut Vec<u8>| own.write(out, |_| true);
        write_request_head(&mut head, &Method::CONNECT, &target, write_headers, BodyFraming::None);
        Self { head: head.into() }
    }

    /// Requests the tunnel, which a 2xx status opens. Bytes after the response head are rejected
    /// unless the target may speak first, since the forward proxy could otherwise inject them.
    pub(super) async fn open<S>(&self, mut stream: S, target_may_begin: bool) -> Result<S, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // The forward proxy may have refused before it read the request: its response says more
        // than the failed write.
        let written = async {
            stream.write_all(&self.head).await?;
            stream.flush().await
        };
        let unwritten = written.await.err();
        let mut reader = HeadReader::new(&Method::CONNECT);
        let mut bytes = Vec::new();
        loop {
            while let Some((parsed, used)) = reader.read(&bytes).map_err(TunnelError::Http1)? {
                bytes.drain(..used);
                let status = parsed.head.status;
                if status.is_success() {
                    return if bytes.is_empty() { Ok(stream) } else { Err(TunnelError::EarlyBytes) };
                }
                if !status.is_informational() {
                    return Err(TunnelError::Status(status));
                }
                if status == http::StatusCode::SWITCHING_PROTOCOLS {
                    return Err(TunnelError::Switched);
                }
            }
            bytes.reserve(READ);
            // If the target may speak first, bytes after the head must stay in the stream.
            // Therefore the head is read byte by byte, once per connection.
            let most = if target_may_begin { 1 } else { READ as u64 };
            match (&mut stream).take(most).read_buf(&mut bytes).await {
                Ok(1..) => {}
                read => {
                    let error = unwritten.or(read.err());
                    return Err(error.map_or(TunnelError::Closed, TunnelError::Io));
                }
            }
        }
    }
}

impl fmt::Debug for Connect {
    /// Leaves out the head, which has credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::config::forward_proxy::basic;
    use crate::support::secret::Secret;

    #[test]
    fn connect_request_has_target_and_proxy_headers_only() {
        let team = (HeaderName::from_static("x-team"), HeaderValue::from_static("search"));
        let credentials = basic("me", &Secret::new("marker".to_owned()));
        let connect = Connect::new("llm.internal", 8443, &[team], Some(&credentials));
        assert_eq!(
            connect.head,
            "CONNECT llm.internal:8443 HTTP/1.1\r\nhost: llm.internal:8443\r\n\
             proxy-authorization: Basic bWU6bWFya2Vy\r\nx-team: search\r\n\r\n"
        );
        assert!(!format!("{connect:?}").contains("bWU6"), "{connect:?}");
        let connect = Connect::new("::1", 80, &[], None);
        assert_eq!(connect.head, "CONNECT [::1]:80 HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
    }

    /// The result for a response that arrives in two pieces: the bytes after its head, or an error.
    async fn outcome_of(response: &[u8], cut: usize, target_may_begin: bool) -> Result<String, String> {
        let (ours, mut theirs) = duplex(1024 * 1024);
        let connect = Connect::new("a", 1, &[], None);
        let (first, second) = response.split_at(cut);
        let proxy = async {
            theirs.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            theirs.write_all(second).await.unwrap();
            drop(theirs);
        };
        let (opened, ()) = tokio::join!(connect.open(ours, target_may_begin), proxy);
        match opened {
            Ok(mut stream) => {
                let mut rest = String::new();
                stream.read_to_string(&mut rest).await.unwrap();
                Ok(rest)
            }
            Err(TunnelError::Status(status)) => Err(status.as_str().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn connect_response_is_parsed_alike_at_every_split() {
        for (response, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Ok(())),
            ("HTTP/1.0 200 OK\r\nvia: a\r\n\r\n", Ok(())),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Ok(())),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno", Err("407")),
            ("HTTP/1.1 302 Found\r\nlocation: http://a\r\n\r\n", Err("302")),
            ("SSH-2.0-OpenSSH_9.2\r\n", Err("broke HTTP")),
            ("HTTP/1.1 200 OK\nx: y\n\n", Err("broke HTTP")),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Err("switched protocols")),
            ("HTTP/1.1 200 O", Err("without a response")),
            ("", Err("without a response")),
        ] {
            for (cut, may_begin) in (0..=response.len()).flat_map(|cut| [(cut, false), (cut, true)]) {
                let found = outcome_of(response.as_bytes(), cut, may_begin).await;
                match (&found, expected) {
                    (Ok(rest), Ok(())) if rest.is_empty() => {}
                    (Err(found), Err(expected)) if found.contains(expected) => {}
                    _ => panic!("{response:?} cut at {cut}: {found:?}, expected {expected:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn connect_rejects_early_bytes_from_forward_proxy() {
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for cut in 0..=response.len() {
            assert_eq!(outcome_of(response, cut, true).await.as_deref(), Ok("hello"), "cut at {cut}");
        }
        let found = outcome_of(response, response.len(), false).await;
        assert!(found.as_ref().is_err_and(|reason| reason.contains("into the tunnel")), "{found:?}");
    }

    #[tokio::test]
    async fn connect_rejects_head_beyond_limit() {
        let endless = [b"HTTP/1.1 200 OK\r\nx: ", &vec![b'a'; 128 * 1024][..]].concat();
        for may_begin in [false, true] {
            let found = outcome_of(&endless, 0, may_begin).await;
            assert!(found.as_ref().is_err_and(|reason| reason.contains("larger than")), "{found:?}");
        }
    }
}
