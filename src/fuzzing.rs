//! The properties that the fuzzers check: any bytes in, and a panic if a guarantee is violated.
//! `fuzz/` runs them without end; the unit tests run them over the seeds.

mod attempts;
mod body_edit;
mod coding;
mod form;
mod forwarded;
mod h1;
mod h1_server;
mod headers;
mod ids;
mod proxy_header;
mod route;
mod sniff;
mod sse;
mod traceparent;
mod usage;
mod verdict;
mod websocket;
mod whole;
pub(crate) mod withhold;

pub use attempts::attempts;
pub use body_edit::body_edit;
pub use coding::coding;
pub use form::form;
pub use forwarded::forwarded;
pub use h1::h1;
pub use h1_server::h1_server;
pub use headers::headers;
pub use ids::ids;
pub use proxy_header::proxy_header;
pub use route::route;
pub use sniff::sniff;
pub use sse::sse;
pub use traceparent::traceparent;
pub use usage::usage;
pub use verdict::verdict;
pub use websocket::websocket;
pub use whole::whole;
pub use withhold::withhold;
