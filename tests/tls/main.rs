//! The proxy with TLS on both sides, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the modules of a test program are for it alone")]

mod admin;
mod first;
#[path = "../harness/mod.rs"]
mod harness;
mod listener;
mod matrix;
mod peers;
mod recordings;
mod rotation;
mod secrets;
mod tools;
mod upstream;
mod witness;
