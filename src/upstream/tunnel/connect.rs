//! CONNECT (RFC 9110 section 9.3.6): the request for a tunnel, and what may be an answer to it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Refusal;
use crate::h1::{HeadReader, Upload, write_request_head};
use crate::upstream::origin::in_words;

/// What one read of an answer may bring; most are smaller. The head's own limit is
/// [`crate::h1::MAX_HEAD`].
const READ: usize = 4 * 1024;

/// The request for a tunnel to one target, written once at start.
pub struct Connect {
    head: Bytes,
}

impl Connect {
    /// A request for a tunnel to `host` (an IPv6 address without brackets) and `port`. `headers`
    /// are for the proxy, `credentials` are the value of `Proxy-Authorization`.
    pub fn new(
        host: &str,
        port: u16,
        headers: &[(HeaderName, HeaderValue)],
        credentials: Option<&HeaderValue>,
    ) -> Self {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let own = [(&header::PROXY_AUTHORIZATION, credentials)];
        let own = own.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        let fields = own.chain(headers.iter().map(|(name, value)| (name, value)));
        let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let host = std::iter::once((&b"host"[..], target.as_bytes()));
        let mut head = Vec::new();
        write_request_head(&mut head, &Method::CONNECT, &target, host.chain(fields), Upload::None);
        Self { head: head.into() }
    }

    /// Asks for the tunnel. Only a status of 2xx opens it, and nothing may come behind its head
    /// unless it is the target that may begin: else such bytes would be the proxy's own, taken for
    /// the target's.
    pub(super) async fn open<S>(&self, mut stream: S, target_may_begin: bool) -> Result<S, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // It may have refused before it read the request; its answer says more than a failed write.
        let written = async {
            stream.write_all(&self.head).await?;
            stream.flush().await
        };
        let unwritten = written.await.err();
        let failed = |reason: String| Refusal::Failed(reason);
        let mut reader = HeadReader::new(&Method::CONNECT);
        let mut bytes = Vec::new();
        loop {
            while let Some((head, used)) =
                reader.read(&bytes).map_err(|error| failed(format!("it broke HTTP: {error}")))?
            {
                bytes.drain(..used);
                if head.status.is_success() {
                    return if bytes.is_empty() {
                        Ok(stream)
                    } else {
                        Err(failed("it sent bytes into the tunnel before the target was asked".to_owned()))
                    };
                }
                if !head.status.is_informational() {
                    return Err(Refusal::Status(head.status));
                }
                if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                    return Err(failed("it switched protocols without being asked to".to_owned()));
                }
            }
            bytes.reserve(READ);
            // What is behind the head must stay in the stream where it may be the target's. It is a
            // head's worth of small reads, once for each connection.
            let most = if target_may_begin { 1 } else { READ as u64 };
            match ((&mut stream).take(most).read_buf(&mut bytes).await, &unwritten) {
                (Ok(1..), _) => {}
                (_, Some(error)) => return Err(failed(in_words(error))),
                (Err(error), None) => return Err(failed(in_words(&error))),
                (Ok(0), None) => {
                    return Err(failed("it closed the connection without an answer".to_owned()));
                }
            }
        }
    }
}

impl fmt::Debug for Connect {
    /// Without the head, which has credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::egress::basic;
    use crate::secret::Secret;

    #[test]
    fn the_request_names_the_target_and_bears_the_proxys_own_headers_only() {
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

    /// What becomes of this answer, which comes in two pieces; what is behind it.
    async fn answered(answer: &[u8], cut: usize, target_may_begin: bool) -> Result<String, String> {
        let (ours, mut theirs) = duplex(1024 * 1024);
        let connect = Connect::new("a", 1, &[], None);
        let (first, second) = answer.split_at(cut);
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
            Err(Refusal::Status(status)) => Err(status.as_str().to_owned()),
            Err(Refusal::Failed(reason)) => Err(reason),
        }
    }

    #[tokio::test]
    async fn an_answer_means_the_same_at_every_split() {
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Ok(())),
            ("HTTP/1.0 200 OK\r\nvia: a\r\n\r\n", Ok(())),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Ok(())),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno", Err("407")),
            ("HTTP/1.1 302 Found\r\nlocation: http://a\r\n\r\n", Err("302")),
            ("SSH-2.0-OpenSSH_9.2\r\n", Err("broke HTTP")),
            ("HTTP/1.1 200 OK\nx: y\n\n", Err("broke HTTP")),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Err("switched protocols")),
            ("HTTP/1.1 200 O", Err("without an answer")),
            ("", Err("without an answer")),
        ] {
            for (cut, may_begin) in (0..=answer.len()).flat_map(|cut| [(cut, false), (cut, true)]) {
                let found = answered(answer.as_bytes(), cut, may_begin).await;
                match (&found, expected) {
                    (Ok(rest), Ok(())) if rest.is_empty() => {}
                    (Err(found), Err(expected)) if found.contains(expected) => {}
                    _ => panic!("{answer:?} cut at {cut}: {found:?}, expected {expected:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn bytes_behind_the_head_are_the_targets_only_where_it_may_begin() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for cut in 0..=answer.len() {
            assert_eq!(answered(answer, cut, true).await.as_deref(), Ok("hello"), "cut at {cut}");
        }
        let found = answered(answer, answer.len(), false).await;
        assert!(found.as_ref().is_err_and(|reason| reason.contains("into the tunnel")), "{found:?}");
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused_at_its_limit() {
        let endless = [b"HTTP/1.1 200 OK\r\nx: ", &vec![b'a'; 128 * 1024][..]].concat();
        for may_begin in [false, true] {
            let found = answered(&endless, 0, may_begin).await;
            assert!(found.as_ref().is_err_and(|reason| reason.contains("larger than")), "{found:?}");
        }
    }
}
