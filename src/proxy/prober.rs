//! Sends the probes of members that are left out, if their groups have a path for it.
//!
//! One worker sends them, over its own connections, and at most one at a time to each upstream. A
//! probe has no record. It begins when the pause of a breaker ends, and nothing is sent while all
//! members are well. A reload takes effect with the next probe.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::worker::{Worker, WorkerUpstream};
use crate::balance::{BreakerPolicy, Probe, ProbeResult};
use crate::record::error::{Kind, Result};
use crate::support::UpstreamId;

/// The time for the whole response to a probe.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// The time for which the place of the trial is kept: the probe's, and that of its result.
const LEASE: Duration = Duration::from_secs(6);

/// The largest body of a response that is read, so that its connection can be used again.
const MAX_BODY: usize = 256 << 10;

/// The shortest time from one look at all members to the next.
const LOOK: Duration = Duration::from_millis(20);

/// The time for which an upstream whose response decided nothing is not probed.
const USELESS: Duration = Duration::from_secs(60);

/// An upstream that may be probed.
struct Probed {
    upstream: Rc<WorkerUpstream>,
    policy: BreakerPolicy,
    path: Arc<str>,
    group: Arc<str>,
}

/// Sends probes until it is dropped, which frees those under way.
pub(super) async fn run(worker: &Worker) {
    let health = Arc::clone(&worker.shared().health);
    let mut seen = 0;
    let mut running = JoinSet::new();
    let mut busy: HashSet<UpstreamId> = HashSet::new();
    let mut useless: HashMap<UpstreamId, Instant> = HashMap::new();
    loop {
        let now = Instant::now();
        useless.retain(|_, until| *until > now);
        let all = probed(worker);
        let models = if all.is_empty() { Vec::new() } else { health.probed_models() };
        let mut next = useless.values().min().copied();
        let mut wake_at = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));
        for Probed { upstream, policy, path, group } in all {
            let id = &upstream.spec.id;
            if busy.contains(id) || useless.contains_key(id) {
                continue;
            }
            let state = health.upstream(id);
            let Some(due) = health.probe_due(&state, &models) else { continue };
            if due > now {
                wake_at(due);
            } else if let Some(probe) = health.begin_probe(&state, &models, &path, now, LEASE) {
                busy.insert(id.clone());
                running.spawn_local(async move {
                    let result = send(&upstream, &path, &group).await;
                    let result = decide(&upstream, probe, result, &policy);
                    (upstream.spec.id.clone(), result)
                });
            } else {
                // A request is the trial, whose time is nearly over.
                wake_at(now + LOOK);
            }
        }
        sleep(LOOK).await;
        let opened = pin!(poll_fn(|cx| health.poll_opened(cx, &mut seen)));
        tokio::select! {
            () = opened => {}
            () = sleep_until(next.unwrap_or(now).into()), if next.is_some() => {}
            Some(ended) = running.join_next() => {
                // A panic ends the thread's runtime, and a task that is cut is not waited for.
                let Ok((id, result)) = ended else { return };
                if result == ProbeResult::Undecided {
                    useless.insert(id.clone(), Instant::now() + USELESS);
                }
                busy.remove(&id);
            }
        }
    }
}

/// The members of groups with probes, each upstream once.
fn probed(worker: &Worker) -> Vec<Probed> {
    let snapshot = worker.snapshot();
    let mut all: Vec<Probed> = Vec::new();
    for target in snapshot.routes.targets() {
        let Some(group) = target.as_group() else { continue };
        let spec = group.spec();
        let Some(path) = &spec.probe else { continue };
        for upstream in (0..target.len()).map(|member| target.member(member)) {
            if !all.iter().any(|probed| probed.upstream.spec.id == upstream.spec.id) {
                let (path, group) = (Arc::clone(path), Arc::clone(&spec.name));
                all.push(Probed { upstream: Rc::clone(upstream), policy: spec.breaker, path, group });
            }
        }
    }
    all
}

async fn send(upstream: &WorkerUpstream, path: &str, group: &str) -> ProbeResult {
    let id = &upstream.spec.id;
    let status = match timeout(PROBE_TIME, ask(upstream, path)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            tracing::debug!(upstream = %id, %error, "the probe failed");
            return ProbeResult::Failed;
        }
        Err(_) => {
            tracing::debug!(upstream = %id, "the probe took too long");
            return ProbeResult::Failed;
        }
    };
    match status {
        _ if status.is_success() || status == StatusCode::TOO_MANY_REQUESTS => ProbeResult::Good,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProbeResult::Refused,
        StatusCode::REQUEST_TIMEOUT => ProbeResult::Failed,
        _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => ProbeResult::Failed,
        _ => {
            tracing::warn!(
                upstream = %id,
                status = status.as_u16(),
                "the upstream does not serve groups.{group}.breaker.probe = {path:?}: the next request decides instead"
            );
            ProbeResult::Undecided
        }
    }
}

/// Returns the status once the whole response is there.
async fn ask(upstream: &WorkerUpstream, path: &str) -> Result<StatusCode> {
    let spec = &upstream.spec;
    let target = spec.dialect.target_below(path).map_err(|_| Kind::UnsafePath.at(&**spec.id.name()))?;
    let mut response = upstream.get(target, &[]).await?;
    response.body.read_ahead(MAX_BODY).await;
    Ok(response.head.status)
}

/// Returns the result that counts.
fn decide(
    upstream: &WorkerUpstream,
    probe: Probe,
    result: ProbeResult,
    policy: &BreakerPolicy,
) -> ProbeResult {
    let counted = probe.record(result, policy, Instant::now());
    if counted == ProbeResult::Good {
        tracing::info!(upstream = %upstream.spec.id, "the probe was successful: the upstream gets requests again");
    }
    counted
}
