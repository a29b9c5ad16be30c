//! Compares our server half of HTTP/1.1 with itself at another split, and with hyper's.
//!
//! Input: a byte for the size of the pieces, and the bytes that the client sends before it closes
//! its side.

use std::cell::RefCell;
use std::convert::Infallible;

use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::codec::h1::server::{BadRequest, RequestReader};
use crate::codec::h1::{BodyDecoder, ProtocolError};

/// Longer input is ignored: hyper limits all extensions of a body, and its trailers, to 16 KiB, and
/// our limits differ.
const MAX_INPUT: usize = 8 * 1024;

/// The same bytes give the same requests at any split, equal to hyper's, or they are refused for a
/// reason that [`is_stricter`] states.
pub fn h1_server(data: &[u8]) {
    let [step, sent @ ..] = data else { return };
    if sent.len() > MAX_INPUT || sent.starts_with(b"PRI ") {
        return;
    }
    let ours = replay([sent]);
    assert_eq!(replay(sent.chunks(1)), ours, "byte by byte");
    assert_eq!(replay(sent.chunks(usize::from(*step).max(2))), ours, "in pieces");
    compare(&ours, &ask_hyper(sent));
}

/// Returns true for errors that hyper may accept.
fn is_stricter(error: ProtocolError) -> bool {
    match error {
        // hyper accepts LF as a line end in its line parser.
        ProtocolError::BareLineFeed => true,
        // hyper uses the coding and ignores the length.
        ProtocolError::LengthAndCoding => true,
        // hyper requires only that the last coding is `chunked`, and passes the rest on as the
        // payload.
        ProtocolError::TransferEncoding => true,
        // hyper accepts lengths beyond signed numbers.
        ProtocolError::ContentLength => true,
        // hyper accepts any number of leading zeros, and any byte except LF in an extension of any
        // length.
        ProtocolError::ChunkSizeTooLong
        | ProtocolError::ChunkExtension
        | ProtocolError::ChunkExtensionsTooLarge => true,
        // hyper refuses all other errors as we do.
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: Method,
    target: Target,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The request reached its end.
    whole: bool,
}

/// The path, the query and the authority.
type Target = (String, Option<String>, Option<String>);

fn target(path: &str, query: Option<&str>, authority: Option<&str>) -> Target {
    (path.to_owned(), query.map(str::to_owned), authority.map(str::to_owned))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Ours {
    requests: Vec<Seen>,
    refused: Option<BadRequest>,
}

/// Reads consecutive requests from the pieces, as a connection does.
fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Ours {
    let mut ours = Ours::default();
    let mut reader = RequestReader::default();
    let mut body: Option<(BodyDecoder, bool)> = None;
    let mut held = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let Some((decoder, keep_alive)) = &mut body else {
                if held.is_empty() {
                    break;
                }
                match reader.read(&held) {
                    Ok(None) => break,
                    Ok(Some((parsed, used))) => {
                        held.drain(..used);
                        body = Some((BodyDecoder::new(parsed.framing), parsed.keep_alive));
                        let head = parsed.head;
                        ours.requests.push(Seen {
                            target: target(head.path(), head.query(), head.authority()),
                            headers: head.headers.to_map(),
                            method: head.method,
                            version: head.version,
                            body: Vec::new(),
                            whole: false,
                        });
                    }
                    Err(error) => {
                        ours.refused = Some(error);
                        return ours;
                    }
                }
                continue;
            };
            let seen = ours.requests.last_mut().expect("the body is a request's");
            let decoded = decoder.decode(&mut held).and_then(|decoded| {
                seen.body.extend_from_slice(&held[decoded.data.clone()]);
                decoder.decode(&mut []).map(|_| decoded)
            });
            match decoded {
                Ok(decoded) => held.drain(..decoded.consumed),
                Err(error) => {
                    ours.refused = Some(BadRequest::Malformed(error));
                    return ours;
                }
            };
            if !decoder.is_done() {
                break;
            }
            seen.whole = true;
            if !*keep_alive {
                return ours;
            }
            body = None;
        }
    }
    ours
}

fn compare(ours: &Ours, theirs: &[Seen]) {
    for (number, ours) in ours.requests.iter().enumerate() {
        let Some(theirs) = theirs.get(number) else {
            // hyper need not report a truncated body to its handler.
            assert!(!ours.whole, "hyper refuses a request that we take: {ours:?}");
            return;
        };
        assert_eq!(
            (&ours.method, &ours.target, ours.version),
            (&theirs.method, &theirs.target, theirs.version)
        );
        let (mut headers, mut their_headers) = (ours.headers.clone(), theirs.headers.clone());
        // We pass a repeated header on once.
        headers.remove("content-length");
        their_headers.remove("content-length");
        assert_eq!(headers, their_headers);
        assert!(theirs.body.starts_with(&ours.body), "payload before a mistake is payload");
        assert!(theirs.whole || !ours.whole, "hyper refuses a body that we take");
        if ours.whole {
            assert_eq!(ours.body, theirs.body);
        }
    }
    let more = theirs.len() > ours.requests.len()
        || theirs.iter().zip(&ours.requests).any(|(theirs, ours)| theirs.whole && !ours.whole);
    if more {
        match ours.refused {
            Some(BadRequest::Malformed(error)) => {
                assert!(is_stricter(error), "hyper takes a request that we refuse: {error:?}");
            }
            other => panic!("hyper finds a request where we find none: {other:?}"),
        }
    }
}

/// The requests that hyper's server finds.
fn ask_hyper(sent: &[u8]) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let seen = RefCell::new(Vec::new());
    runtime.block_on(async {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let service = service_fn(|request: Request<Incoming>| async {
            let (parts, mut body) = request.into_parts();
            let mut payload = Vec::new();
            let whole = loop {
                match body.frame().await {
                    None => break true,
                    Some(Err(_)) => break false,
                    Some(Ok(frame)) => payload.extend(frame.into_data().into_iter().flatten()),
                }
            };
            let (uri, method, version, headers) = (parts.uri, parts.method, parts.version, parts.headers);
            let target = target(uri.path(), uri.query(), uri.authority().map(|authority| authority.as_str()));
            seen.borrow_mut().push(Seen { method, target, version, headers, body: payload, whole });
            let mut response = Response::new(Empty::<Bytes>::new());
            // Not a success, which would make a tunnel of CONNECT.
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok::<_, Infallible>(response)
        });
        let connection = http1::Builder::new()
            .half_close(true)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(far), service);
        let client = async {
            // An error only means that hyper has closed the connection.
            let _closed = near.write_all(sent).await;
            let _closed = near.shutdown().await;
            let mut responses = Vec::new();
            let _closed = near.read_to_end(&mut responses).await;
        };
        let (_served, ()) = tokio::join!(connection, client);
    });
    seen.into_inner()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/h1_server");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::h1_server(&seed[..end]);
            }
        }
    }
}
