//! A reverse proxy for OpenAI-style APIs. It puts the right URL and credentials on each request,
//! relays the answer's bytes the moment they arrive, and knows afterwards exactly how many tokens
//! went by, whose they were, and how that is known.
//!
//! # The life of a request
//!
//! ```text
//!  client ── listener ──> proxy ───────────────────────────────────> upstream ──> service
//!            accept        authenticate · hold · route · rewrite      pool, connect, send
//!            limits                                                      │
//!  client <── listener <─ meter <────────────────────────────────────────┘
//!                          shows each frame to sse + usage, closes the record
//!                            └──> record: journal ──> its own thread ──> sinks (JSON lines, log, metrics; ledger and OpenTelemetry, which have their own)
//! ```
//!
//! One thread per core, each with its own runtime, listening socket and pool; one task per client
//! connection does everything for it, from the client's first byte to the upstream's last. Start
//! reading at [`proxy`]: its `prepare` and `handle` are the whole way in a few lines.
//!
//! # The map
//!
//! Dependencies point downward only; `tests/layering.rs` holds the modules to it.
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | root | [`cli`] | the commands, one file each |
//! | | [`app`] | settings → bound sockets → addresses → running threads |
//! | I/O | [`proxy`] | the life of a request |
//! | | [`admin`] | pages for operators: the dashboard, usage records, health, metrics |
//! | | [`simulator`] | an upstream that answers from nothing |
//! | | [`listener`] | accepts, limits, speaks HTTP with clients: a loop per HTTP/1.1 connection, hyper for HTTP/2 |
//! | | [`upstream`] | connects, pools, sends, reads answers |
//! | adapters | [`meter`] | the body that is relayed, with the meter beside it |
//! | | [`ledger`] | usage records in SQLite, and their sums |
//! | | [`metrics`] | counters and histograms, from closed records |
//! | | [`otlp`] | spans and metrics for an OpenTelemetry collector, from closed records |
//! | | [`record`] | the usage record and its way to the sinks |
//! | | [`config`] | file and environment → settings that are valid by construction |
//! | | [`tls`] | certificates and keys, read, checked, and read again when they change |
//! | | [`flow`] | what is measured while answers flow |
//! | | [`threads`] | threads that are supervised, and which may block on what |
//! | | [`reload`] | how reloads of the configuration are requested, and what became of them |
//! | | [`drain`], [`telemetry`] | stopping; logs |
//! | | [`resolver`] | addresses of names, one lookup at a time for each |
//! | | [`error`] | whose fault it is, and what the client is told |
//! | | [`estimate`] | tokens of what passed, where nobody reported any |
//! | pure | [`sse`], [`usage`] | the event-stream decoder; where usage lives and how counts accumulate |
//! | | [`coding`] | content codings, undone within bounds |
//! | | [`websocket`] | WebSocket frames |
//! | | [`h1`] | HTTP/1.1, both halves: heads, framing, bodies |
//! | | [`provider`], [`route`], [`auth`] | dialects; the table and its matcher; clients and their keys |
//! | | [`balance`] | which upstream gets the next attempt, and in which variant |
//! | | [`price`] | what tokens cost |
//! | | [`traceparent`] | which span of which trace a request is |
//! | | [`egress`] | straight to a service, or through which proxy |
//! | | [`browser`] | which hosts are ours, and which web pages may send requests |
//! | | [`rewrite`], [`json`] | headers, and the smallest possible edit of a JSON body or of a form |
//! | | [`support`] | small mechanisms: backoff, counters of what runs |
//! | | [`secret`] | a value that does not print itself |
//!
//! # The invariants
//!
//! 1. Bytes of an answer are passed on as they came; the meter looks and never holds. The one
//!    exception is the event that comes of asking for usage in the client's place
//!    ([`usage::Withhold`]); to take it out of an encoded stream, the coding is undone
//!    ([`meter::DecodedBody`]).
//! 2. Every request has one [`record::Entry`], which closes itself exactly once, also on drop.
//!    Where the client has left, it is dropped at once, or goes on in a [drain](meter::Drains),
//!    which the worker waits for when it stops.
//! 3. Every buffer and queue has a bound, with a name.
//! 4. What the network can influence is parsed into an error, never into a panic.

// They panic where the reader has left, and block where it is too slow.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod admin;
pub mod app;
pub mod auth;
pub mod balance;
pub mod browser;
pub mod cli;
pub mod coding;
pub mod config;
pub mod drain;
pub mod egress;
pub mod error;
pub mod estimate;
pub mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod h1;
pub mod json;
pub mod ledger;
pub mod listener;
pub mod meter;
pub mod metrics;
pub mod otlp;
pub mod price;
pub mod provider;
pub mod proxy;
pub mod record;
pub mod reload;
pub mod resolver;
pub mod rewrite;
pub mod route;
pub mod secret;
pub mod simulator;
pub mod sse;
pub mod support;
pub mod telemetry;
pub mod threads;
pub mod tls;
pub mod traceparent;
pub mod upstream;
pub mod usage;
pub mod websocket;
