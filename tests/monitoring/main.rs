//! Monitoring of the proxy: the real program and its simulator, scraped by a real Prometheus, with
//! its records in a real PostgreSQL, and the dashboards, alerts and scrape configuration of
//! `config/` run against them.
//!
//! | module | what it is |
//! |---|---|
//! | `metrics` | `/metrics`, for promtool and for Prometheus |
//! | `dashboards` | every query of `config/grafana` |
//! | `alerts` | `config/prometheus` |
//! | `scene`, `traffic` | the program under a configuration and a load that leave nothing empty |
//! | `prometheus`, `grafana`, `process` | Prometheus itself, what Grafana does with a dashboard, and programs that say when they are ready |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the modules of a test program are for it alone")]

#[path = "../harness/mod.rs"]
mod harness;

mod alerts;
mod dashboards;
mod grafana;
mod metrics;
mod process;
mod prometheus;
mod scene;
mod traffic;

use std::time::Duration;

/// The longest wait before a test fails. No test should take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `ask` until it returns a value.
fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    harness::until(PATIENCE, what, ask)
}
