//! Tests `streamgauge check --live`, as a program, against services and proxies of all kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the modules of a test program are for it alone")]

mod failures;
#[path = "../harness/mod.rs"]
mod harness;
mod program;
mod successes;
mod verdict;
mod ways;
