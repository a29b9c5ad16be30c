//! `streamgauge check --live`, the program itself, against services and proxies of all sorts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the modules of a test program are for it alone")]

#[path = "../certificates/mod.rs"]
mod certificates;
mod failures;
mod program;
mod successes;
#[path = "../proxy/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only servers and proxies are needed here")]
mod support;
mod verdict;
mod ways;
