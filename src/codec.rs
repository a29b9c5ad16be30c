//! Wire formats: bytes in, values out. Pure: no socket, no clock, no runtime.

pub mod authority;
pub mod coding;
pub mod forwarded;
pub mod h1;
pub mod head;
pub mod json;
pub mod proxy_header;
pub mod sse;
pub mod traceparent;
pub mod websocket;
