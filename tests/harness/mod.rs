//! The harness of all test programs: the proxy in this process or as a program, upstreams, clients,
//! and the servers of others that it works with.
//!
//! | module | what it is |
//! |---|---|
//! | `proxy`, `program` | the proxy as a library on a free port, and as the program itself |
//! | `client`, `http2` | clients that write raw HTTP/1.1, with TLS or without, and hyper's HTTP/2 |
//! | `upstream`, `frames`, `http2` | upstreams by script: raw HTTP/1.1, HTTP/2 frames, h2 |
//! | `service`, `listen` | an upstream on hyper; servers that are tasks, with or without TLS |
//! | `tunnel` | forward proxies, and TLS in front of a server |
//! | `tls`, `certificates` | both ends of TLS, under certificates made for the run |
//! | `encoders` | bodies under content codings |
//! | `collector`, `postgres`, `redis` | an OpenTelemetry collector, and servers of PostgreSQL and Redis |
//! | `redis_link` | a way to Redis that leads elsewhere, or loses replies |

#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

pub mod certificates;
mod client;
pub mod collector;
pub mod encoders;
mod frames;
mod http2;
pub mod listen;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod redis;
pub mod redis_link;
pub mod service;
pub mod tls;
mod tunnel;
mod upstream;

pub use client::{Client, End, Response};
pub use frames::{DATA, FINAL, Frames, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM};
pub use http2::{Http2, http2_client, write};
pub use program::{Program, Serving, ids};
pub use proxy::{Proxy, proxy};
pub use tunnel::{Tunnels, tls_choosing, tls_front, tls_in_front_of};
pub use upstream::{Connection, Request, Upstream, header, upstream, upstream_on};

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait before a test fails. No test should take it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `ask` until it returns a value: for conditions without an event.
pub fn until<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(response) = ask() {
            return response;
        }
        assert!(start.elapsed() < patience, "{what} did not come about");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A chat completion's event stream as services send it, with usage at its end.
pub const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-real\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-real\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-real\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-real\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0}}}\n\n",
    "data: [DONE]\n\n",
);

/// A chat completion as one body.
pub const CHAT_BODY: &str = "{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"gpt-real\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}";

/// The request of most tests, whose response is [`CHAT_STREAM`], including usage.
pub const CHAT_REQUEST: &str = "{\"model\":\"gpt-asked\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":true,\"stream_options\":{\"include_usage\":true}}";

/// A response with a declared length.
pub fn sized(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head of an event stream in chunks.
pub const EVENTS_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// One chunk.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// The end of a chunked body.
pub const LAST_CHUNK: &str = "0\r\n\r\n";

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
