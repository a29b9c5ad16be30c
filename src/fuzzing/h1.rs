//! Compares our client half of HTTP/1.1 with itself at another split, and with hyper's.
//!
//! Input: a byte for the request's method, a byte for the size of the pieces, and the bytes that
//! the upstream sends before it closes the connection.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::codec::h1::replay::{Replay, Verdict, replay};
use crate::codec::h1::{Framing, MAX_HEADERS, ParsedResponse, ProtocolError};

/// Longer input is ignored: hyper limits all extensions of a body, and its trailers, to 16 KiB, and
/// our limits differ.
const MAX_INPUT: usize = 8 * 1024;

/// Trailers that we drop and hyper does not.
const NOT_FOR_TRAILERS: [&str; 7] =
    ["transfer-encoding", "content-length", "connection", "host", "te", "trailer", "upgrade"];

/// The same bytes give the same response at any split, equal to hyper's, or they are refused for a
/// reason that [`is_stricter`] states.
pub fn h1(data: &[u8]) {
    let [method, step, response @ ..] = data else { return };
    if response.len() > MAX_INPUT {
        return;
    }
    let method = match method % 4 {
        0 => Method::HEAD,
        1 => Method::POST,
        2 => Method::CONNECT,
        _ => Method::GET,
    };

    let ours = replay(&method, [response]);
    assert_eq!(replay(&method, response.chunks(1)), ours, "byte by byte");
    assert_eq!(replay(&method, response.chunks(usize::from(*step).max(2))), ours, "in pieces");

    let theirs = ask_hyper(method, response);
    compare(&ours, &theirs);
}

/// Returns true for errors that hyper may accept.
fn is_stricter(error: ProtocolError) -> bool {
    match error {
        // hyper accepts LF as a line end in its line parser, and skips empty lines before a head.
        ProtocolError::BareLineFeed | ProtocolError::EmptyLineFirst => true,
        // hyper uses the coding and ignores the length, so that two readers may see two messages.
        ProtocolError::LengthAndCoding => true,
        // hyper reads other codings until the close, or removes `chunked` and passes the rest on as
        // the payload.
        ProtocolError::TransferEncoding => true,
        // hyper accepts any number of leading zeros, and any byte except LF in an extension of any
        // length.
        ProtocolError::ChunkSizeTooLong
        | ProtocolError::ChunkExtension
        | ProtocolError::ChunkExtensionsTooLarge => true,
        // hyper waits through any number of them.
        ProtocolError::TooManyInterim => true,
        // hyper refuses all other errors as we do.
        _ => false,
    }
}

fn compare(ours: &Replay, theirs: &Theirs) {
    if let Some(head) = &ours.head {
        compare_heads(head, theirs.head.as_ref().expect("a head that we take is taken by hyper"));
    }
    match ours.verdict {
        Verdict::Complete => {
            assert!(theirs.complete, "hyper refuses a response that we accept");
            assert_eq!(ours.body, theirs.body);
            let mut trailers = theirs.trailers.clone();
            for name in NOT_FOR_TRAILERS {
                trailers.remove(name);
            }
            assert_eq!(ours.trailers.clone().unwrap_or_default(), trailers);
        }
        Verdict::NoHead => assert!(!theirs.complete, "hyper finds a response and we find none"),
        Verdict::Refused(error) => {
            assert!(
                !theirs.complete || is_stricter(error),
                "hyper accepts a response that we refuse: {error}"
            );
            assert!(theirs.body.starts_with(&ours.body), "payload before a mistake is payload");
        }
    }
}

fn compare_heads(ours: &ParsedResponse, theirs: &TheirHead) {
    assert_eq!((ours.head.status, ours.version), (theirs.status, theirs.version));
    // hyper returns no reason with a byte beyond ASCII.
    let reason = ours.head.reason.as_ref().map(|reason| if reason.is_ascii() { &reason[..] } else { b"" });
    assert_eq!(reason, theirs.reason.as_deref());
    let (mut headers, mut their_headers) = (ours.head.headers.to_map(), theirs.headers.clone());
    if let Framing::Length(length) = ours.framing {
        // We pass a repeated header on once.
        assert_eq!(headers.get_all(CONTENT_LENGTH).iter().count(), 1);
        let said = headers.remove(CONTENT_LENGTH).expect("it is there once");
        assert_eq!(said.to_str().ok().and_then(|said| said.parse().ok()), Some(length));
        their_headers.remove(CONTENT_LENGTH);
    }
    assert_eq!(headers, their_headers);
}

/// hyper's reading of a response.
#[derive(Default)]
struct Theirs {
    head: Option<TheirHead>,
    body: Vec<u8>,
    trailers: HeaderMap,
    /// The response reached its end without an error.
    complete: bool,
}

struct TheirHead {
    status: StatusCode,
    version: Version,
    reason: Option<Vec<u8>>,
    headers: HeaderMap,
}

fn ask_hyper(method: Method, response: &[u8]) -> Theirs {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(2 * MAX_INPUT);
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS);
        let (sender, connection) = builder.handshake(TokioIo::new(near)).await.expect("nothing is sent yet");
        let (_, (), theirs) =
            tokio::join!(connection.with_upgrades(), serve(far, response), exchange(sender, method));
        theirs
    })
}

/// The upstream: waits for the request, responds, and closes the connection.
async fn serve(mut stream: DuplexStream, response: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            continue;
        }
        return;
    }
    // An error only means that hyper has closed the connection.
    let _closed = stream.write_all(response).await;
}

async fn exchange(mut sender: http1::SendRequest<Empty<Bytes>>, method: Method) -> Theirs {
    let mut theirs = Theirs::default();
    let request =
        Request::builder().method(method).uri("upstream:80").body(Empty::new()).expect("it is valid");
    let Ok(response) = sender.send_request(request).await else { return theirs };
    let (parts, mut body) = response.into_parts();
    theirs.head = Some(TheirHead {
        status: parts.status,
        version: parts.version,
        reason: parts.extensions.get::<ReasonPhrase>().map(|reason| reason.as_bytes().to_vec()),
        headers: parts.headers,
    });
    theirs.complete = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => theirs.body.extend_from_slice(&data),
                Err(frame) => theirs.trailers.extend(frame.into_trailers().unwrap_or_default()),
            },
        }
    };
    theirs
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/h1");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::h1(&seed[..end]);
            }
        }
    }
}
