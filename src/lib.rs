//! A reverse proxy for OpenAI-style APIs. It adds the right URL and credentials to each request,
//! relays the response's bytes the moment they arrive, and then knows exactly how many tokens
//! passed, whose they were, and how they were counted.
//!
//! # The path of a request
//!
//! ```text
//!  client ── server ──> proxy ───────────────────────────────────────> upstream ──> service
//!            accept      authenticate · buffer · route · prepare         pool, connect, send
//!            limits                                                         │
//!  client <── server <── proxy::meter <─────────────────────────────────────┘
//!                         shows each frame to codec::sse and llm::usage, closes the record
//!                           └──> record: journal ──> its own thread ──> sinks: ledger, Prometheus, JSON lines, log, OpenTelemetry
//! ```
//!
//! One thread per core has its own runtime, listening socket and connection pools. One task per
//! client connection does all of its work, from the client's first byte to the upstream's last.
//! [`proxy`] is the place to start reading: its `prepare` and `respond` are the whole path in a few
//! lines.
//!
//! # The layers
//!
//! A module uses those of the lines below its own, and none of its own line or above.
//! `tests/layering.rs` reads this table.
//!
//! | layer | modules | what they hold |
//! |---|---|---|
//! | 1 | [`cli`] | the commands, one file each |
//! | 2 | [`app`], [`import`] | settings → bound sockets → addresses → running threads; reload; shutdown; files of other programs as ours |
//! | 3 | [`proxy`], [`admin`], [`simulator`] | the path of a request, with its meter; pages for operators; an upstream that generates its responses |
//! | 4 | [`sinks`] | receivers of closed records: ledger, Prometheus, OpenTelemetry, JSON lines, access log |
//! | 5 | [`server`], [`upstream`] | connections of clients; connections to upstreams |
//! | 6 | [`config`] | file and environment → settings that are valid by construction |
//! | 7 | [`record`], [`gate`], [`balance`], [`tls`] | the usage record and its errors; who may send requests; attempts; certificates and keys |
//! | 8 | [`llm`] | dialects of providers, routing by model, body edits, usage, estimates, prices |
//! | 9 | [`codec`] | wire formats: HTTP/1.1, content codings, server-sent events, WebSocket, JSON |
//! | 10 | [`support`] | small mechanisms that all layers share |
//!
//! # The invariants
//!
//! 1. The bytes of a response are passed on unchanged and immediately; the meter never delays them.
//!    The one exception is the event that the proxy itself requested ([`llm::usage::Withhold`]); to
//!    remove it from an encoded stream, the stream is decoded ([`proxy::meter::DecodedBody`]).
//! 2. Every request has one [`record::Entry`], which closes itself exactly once, also on drop. When
//!    the client leaves, the entry is dropped immediately, or continues in a
//!    [drain](proxy::meter::Drains), for which a stopping worker waits.
//! 3. Every buffer and queue has a bound, with a name.
//! 4. Input from the network is parsed into an error, never into a panic.

// `println!` and `eprintln!` panic if the reader has closed the pipe, and block if it is too slow.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod admin;
pub mod app;
pub mod balance;
pub mod cli;
pub mod codec;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gate;
pub mod import;
pub mod llm;
pub mod proxy;
pub mod record;
pub mod server;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod sinks;
pub mod support;
pub mod tls;
pub mod upstream;
