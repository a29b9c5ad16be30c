use std::sync::Arc;

use tokio::task::LocalSet;

use super::super::scripted::{DONE, Scene, Script, Step, TOKEN, USAGE, truncated};
use super::*;
use crate::record::{UsageRecord, UsageSource};

const LIMITS: DrainLimits = DrainLimits { time: Duration::from_secs(60), bytes: 1 << 20, concurrent: 1 };

/// The drains of a test, and their counters.
struct Counters {
    drains: Drains,
    everywhere: SharedCount,
    here: LocalCount,
}

impl Counters {
    fn new(limits: DrainLimits) -> Self {
        let (everywhere, here) = (SharedCount::default(), LocalCount::default());
        Self { drains: Drains::new(limits, everywhere.clone(), here.clone()), everywhere, here }
    }

    fn count(&self) -> (usize, usize) {
        (self.everywhere.get(), self.here.get())
    }
}

/// The record of an event stream whose client leaves after `read` frames. The clock is paused: it
/// jumps to the next timer when all tasks are idle.
async fn drained(limits: DrainLimits, script: Script, read: usize) -> UsageRecord {
    let scene = Scene::new();
    let counters = Counters::new(limits);
    LocalSet::new()
        .run_until(async {
            let mut exchange = scene.events(script);
            for _ in 0..read {
                exchange.frame().await.unwrap().unwrap();
            }
            counters.drains.take_over(exchange);
            counters.here.wait_empty().await;
        })
        .await;
    assert_eq!(counters.count(), (0, 0));
    scene.record()
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_reads_usage_that_its_client_did_not_wait_for() {
    for read in 0..=2 {
        let script = Script::data([TOKEN, TOKEN, USAGE, DONE]);
        let is_dropped = script.is_dropped();
        let record = drained(LIMITS, script, read).await;
        assert_eq!(
            (record.outcome, record.usage_source),
            (Outcome::ClientDisconnected, UsageSource::Drained)
        );
        assert_eq!((record.usage.output_tokens, record.error), (Some(3), None));
        assert!(record.time_to_disconnect_ms.is_some() && is_dropped.get());
    }
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_is_not_begun_after_the_last_event() {
    let record = drained(LIMITS, Script::data([TOKEN, USAGE, DONE]).and(Step::Stall), 3).await;
    assert_eq!((record.outcome, record.usage_source), (Outcome::Complete, UsageSource::Reported));
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_ends_at_its_byte_limit() {
    let all = TOKEN.len() + USAGE.len() + DONE.len();
    // The frame that crosses the limit has been metered.
    for (bytes, source) in [
        (all, UsageSource::Drained),
        (all - 1, UsageSource::Drained),
        (TOKEN.len(), UsageSource::Partial),
        (TOKEN.len() - 1, UsageSource::None),
    ] {
        let limits = DrainLimits { bytes: bytes as u64, ..LIMITS };
        let record = drained(limits, Script::data([TOKEN, TOKEN, USAGE, DONE]), 1).await;
        assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, source), "{bytes}");
        let error = record.error.as_deref().unwrap_or_default();
        assert_eq!(error.contains("drain_limits.bytes"), source != UsageSource::Drained, "{error:?}");
    }
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_ends_at_its_time_limit() {
    let script = Script::data([TOKEN, TOKEN, USAGE]).and(Step::Stall);
    let is_dropped = script.is_dropped();
    let record = drained(LIMITS, script, 1).await;
    assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, UsageSource::Partial));
    assert_eq!(record.error.as_deref(), Some("drained no longer than drain_limits.seconds, 60"));
    assert!(is_dropped.get(), "which tells the upstream");
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_waits_only_briefly_after_the_last_event() {
    let began = tokio::time::Instant::now();
    let record = drained(LIMITS, Script::data([TOKEN, USAGE, DONE]).and(Step::Stall), 1).await;
    assert_eq!((record.usage_source, record.error), (UsageSource::Drained, None));
    assert!(began.elapsed() < 2 * AFTER_TERMINAL, "{:?}", began.elapsed());
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_that_fails_is_a_client_that_left() {
    let record = drained(LIMITS, Script::data([TOKEN, USAGE]).and(Step::Fail(truncated())), 1).await;
    assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, UsageSource::Partial));
    assert_eq!(record.error, Some(truncated().to_string().into()));
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_beyond_the_concurrent_limit_is_not_begun() {
    let none = DrainLimits { concurrent: 0, ..LIMITS };
    let record = drained(none, Script::data([TOKEN, USAGE, DONE]), 1).await;
    assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, UsageSource::None));
    assert!(record.error.unwrap().contains("drain_limits.concurrent"));
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_is_not_begun_at_shutdown() {
    let (scene, counters) = (Scene::new(), Counters::new(LIMITS));
    let mut exchange = scene.events(Script::data([TOKEN, USAGE, DONE]));
    exchange.frame().await;
    scene.journal.cut();
    counters.drains.take_over(exchange);
    assert_eq!((scene.record().outcome, counters.count()), (Outcome::Cut, (0, 0)));
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn dropped_body_hands_its_response_to_a_drain() {
    for (drains, source) in [(true, UsageSource::Drained), (false, UsageSource::None)] {
        let (scene, counters) = (Scene::new(), Counters::new(LIMITS));
        LocalSet::new()
            .run_until(async {
                let script = Script::data([TOKEN, USAGE, DONE]);
                drop(scene.metered(script, drains.then(|| counters.drains.clone())));
                counters.here.wait_empty().await;
            })
            .await;
        let record = scene.record();
        assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, source));
    }
}

/// The record of a request whose client leaves before `send` has a response.
async fn pending(send: impl Future<Output = Result<Script, Error>> + 'static) -> UsageRecord {
    let (scene, counters) = (Scene::new(), Counters::new(LIMITS));
    let entry = scene.entry();
    LocalSet::new()
        .run_until(async {
            let meter = |script, entry| {
                let status = http::StatusCode::OK;
                let policy = super::super::ResponsePolicy::new(Arc::default(), None);
                Metered::new(script, crate::llm::usage::Content::Events.into(), entry, status, policy)
            };
            counters.drains.take_over_request(send, entry, meter);
            counters.here.wait_empty().await;
        })
        .await;
    assert_eq!(counters.count(), (0, 0));
    scene.record()
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn pending_request_is_drained_whatever_its_upstream_says() {
    let record = pending(std::future::ready(Ok(Script::data([TOKEN, USAGE, DONE])))).await;
    assert_eq!((record.outcome, record.usage_source), (Outcome::ClientDisconnected, UsageSource::Drained));

    let record = pending(std::future::ready(Err(truncated()))).await;
    assert_eq!(record.outcome, Outcome::ClientDisconnected);
    assert_eq!(record.error, Some(truncated().to_string().into()));

    let record = pending(std::future::pending()).await;
    assert_eq!(record.outcome, Outcome::ClientDisconnected);
    assert_eq!(record.error.as_deref(), Some("drained no longer than drain_limits.seconds, 60"));
}

#[cfg(feature = "moved-clock")]
#[tokio::test(start_paused = true)]
async fn drain_that_its_runtime_drops_is_recorded() {
    let (scene, counters) = (Scene::new(), Counters::new(LIMITS));
    let tasks = LocalSet::new();
    let _entered = tasks.enter();
    let mut exchange = scene.events(Script::data([TOKEN, USAGE]).and(Step::Stall));
    exchange.frame().await;
    counters.drains.take_over(exchange);
    assert_eq!(counters.count(), (1, 1));
    drop(_entered);
    drop(tasks);
    assert_eq!((scene.record().outcome, counters.count()), (Outcome::ClientDisconnected, (0, 0)));
}
