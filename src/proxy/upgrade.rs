//! Upgraded connections (WebSockets): copies the bytes of both directions unchanged, and shows them
//! to the session's meter. Where limits apply, or a fleet knows whose ids are, each message of the
//! client waits for its admission.

mod connections;
mod gate;
mod pipe;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, sleep_until, timeout};

use super::budget::Reserved;
use crate::codec::websocket::{GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION, close_frame};
use crate::proxy::meter::{Peer, Session, SessionEnd};
use crate::record::error::{Blame, Kind};
use crate::server::ClientStream;
use crate::support::CutSwitch;
use crate::support::memory::{MemoryHold, MemoryPart};
use crate::upstream::{Scratch, UpgradedUpstream};
use connections::SessionKey;
use gate::TurnGate;
use pipe::{Broken, Pipe, Verdict};

pub(super) use connections::UpgradedConnections;

/// The wait for the end of both sides after a close frame.
const CLOSING: Duration = Duration::from_secs(5);

/// The time to write a close frame of ours.
const GOODBYE: Duration = Duration::from_millis(500);

/// The time for all connections to end when the process stops.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// One session's two connections.
struct UpgradedConnection {
    client: ClientStream,
    upstream: UpgradedUpstream,
    /// The direction from the client to the upstream.
    up: Pipe,
    /// The direction from the upstream to the client.
    down: Pipe,
    session: Session,
    /// `None`: messages pass as they come.
    gate: Option<Box<TurnGate>>,
    /// The memory of the bytes in `up` that the gate has held.
    passing: Option<Reserved>,
    /// The client's key, while the session is to end with it.
    key: Option<SessionKey>,
    /// Counts the bytes that wait in both pipes.
    waiting: MemoryHold,
    scratch: Scratch,
    /// The time at which either side last sent bytes.
    last: Instant,
    total: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl UpgradedConnection {
    /// `first`: bytes that the client sent after its request head.
    fn new(
        client: ClientStream,
        first: Bytes,
        mut upstream: UpgradedUpstream,
        mut session: Session,
        upgraded: &UpgradedConnections,
        started: Instant,
    ) -> Self {
        let scratch = upgraded.0.scratch.clone();
        let (last, timeouts) = (Instant::now(), upstream.timeouts());
        let key = upgraded.key_of(&mut session);
        let gate = upgraded.gate_of(&mut session);
        Self {
            up: Pipe::beginning_with(first),
            down: Pipe::beginning_with(upstream.take_first()),
            client,
            upstream,
            session,
            gate,
            passing: None,
            key,
            waiting: scratch.memory().hold(MemoryPart::Requests),
            scratch,
            last,
            total: timeouts.total.map(|total| started + total),
            timer: Box::pin(sleep_until((last + timeouts.idle).into())),
        }
    }

    async fn run(mut self, upgraded: &UpgradedConnections, cut: Option<&CutSwitch>) {
        let end = tokio::select! {
            biased;
            end = std::future::poll_fn(|cx| self.poll(cx)) => end,
            () = upgraded.stopping() => SessionEnd::Stopped,
            () = thrown(cut) => SessionEnd::Failed(Kind::KeyRevoked.into()),
        };
        match &end {
            SessionEnd::Left(Peer::Upstream) if !self.down.told => {
                let _ = timeout(GOODBYE, self.client.shutdown()).await;
            }
            SessionEnd::Left(_) => {}
            SessionEnd::Failed(error) if *error.kind() == Kind::Truncated => {
                self.write_close(INTERNAL_ERROR, "the upstream broke off").await;
            }
            SessionEnd::Failed(error) if matches!(error.kind(), Kind::StoredIdUnknown(_)) => {
                self.write_close(POLICY_VIOLATION, "an id in the message is not this client's").await;
            }
            SessionEnd::Failed(error) if *error.kind() == Kind::BodyNotJson => {
                self.write_close(POLICY_VIOLATION, "the message is not valid JSON").await;
            }
            SessionEnd::Failed(error) if *error.kind() == Kind::KeyRevoked => {
                self.write_close(POLICY_VIOLATION, "the key was revoked").await;
            }
            SessionEnd::Failed(error) if error.blame() == Blame::Client => {
                self.write_close(POLICY_VIOLATION, error.code()).await;
            }
            SessionEnd::Failed(_) => self.write_close(GOING_AWAY, "the proxy gave the session up").await,
            SessionEnd::Stopped => self.write_close(GOING_AWAY, "the proxy is stopping").await,
        }
        self.session.close(&end);
    }

    /// Copies in both directions; `Ready` at the end of the session.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        let scratch = self.scratch.clone();
        let mut scratch = scratch.borrow();
        let Self { session, gate, passing, key, .. } = self;
        let (mut refused, mut asks) = (None, false);
        if let Some(gate) = gate
            && gate.is_waiting()
            && self.up.waiting.is_empty()
            && session.poll_grant(cx).is_ready()
        {
            match gate.retry(|message| session.admit(message)) {
                Ok(passed) => {
                    asks = passed.asks && !passed.bytes.is_empty();
                    if asks && !key.as_ref().is_none_or(SessionKey::is_valid) {
                        return Poll::Ready(SessionEnd::Failed(Kind::KeyRevoked.into()));
                    }
                    self.up.unflushed |= !passed.bytes.is_empty();
                    (self.up.waiting, *passing) = (passed.bytes, passed.reserved);
                }
                Err(error) => return Poll::Ready(SessionEnd::Failed(error)),
            }
        }
        self.up.paused = gate.as_ref().is_some_and(|gate| gate.is_blocked());
        let up = self.up.poll(cx, &mut self.client, &mut self.upstream, &mut scratch, |bytes| {
            if !gate.as_ref().is_some_and(|gate| gate.has_unread()) {
                session.saw(Peer::Client, bytes);
            }
            if session.refusal().is_some() {
                return Verdict::Stop;
            }
            let Some(gate) = gate else { return Verdict::Pass };
            match gate.push(bytes, |message| session.admit(message)) {
                Ok(passed) => {
                    asks |= passed.asks;
                    // A message of a key that is no longer valid does not pass.
                    if asks && !key.as_ref().is_none_or(SessionKey::is_valid) {
                        return Verdict::Stop;
                    }
                    *passing = passed.reserved;
                    Verdict::Replace { bytes: passed.bytes, unread: passed.unread, pauses: gate.is_blocked() }
                }
                Err(error) => {
                    refused = Some(error);
                    Verdict::Stop
                }
            }
        });
        if let Some(refusal) = session.refusal() {
            return Poll::Ready(SessionEnd::Failed(refusal.clone().into()));
        }
        if let Some(error) = refused {
            return Poll::Ready(SessionEnd::Failed(error));
        }
        if self.up.waiting.is_empty() {
            *passing = None;
            if !self.up.paused
                && let Some(gate) = gate
                && let Poll::Ready(error) = gate.poll_pace(cx)
            {
                return Poll::Ready(SessionEnd::Failed(error));
            }
        }
        // After a failure of the upstream, the client is still sent a close frame of ours.
        self.down.keeps_open = !session.is_closing();
        let begun = session.begun();
        let down = loop {
            if self.down.waiting.is_empty()
                && session.takes_message()
                && let Some(reply) = gate.as_mut().and_then(|gate| gate.take_reply())
            {
                (self.down.waiting, self.down.unflushed) = (reply, true);
            }
            let down = self.down.poll(cx, &mut self.upstream, &mut self.client, &mut scratch, |bytes| {
                session.saw(Peer::Upstream, bytes);
                Verdict::Pass
            });
            let has_reply = gate.as_ref().is_some_and(|gate| gate.has_reply());
            if !(down.is_pending() && has_reply && self.down.waiting.is_empty() && session.takes_message()) {
                break down;
            }
        };
        drop(scratch);
        // Those that the gate let pass count in `passing`.
        let up_waits = if passing.is_some() { 0 } else { self.up.waiting.len() };
        self.waiting.set(up_waits + self.down.waiting.len());
        if self.up.paused {
            match gate.as_ref().filter(|gate| gate.is_blocked()) {
                // The client is read on.
                None => cx.waker().wake_by_ref(),
                // Its wait begins, or goes on behind what is written.
                Some(gate) if gate.is_waiting() && self.up.waiting.is_empty() => {
                    if session.poll_grant(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
                Some(_) => {}
            }
        }
        if let Some(error) = session.take_cut() {
            return Poll::Ready(SessionEnd::Failed(error));
        }
        if (asks || session.begun() > begun) && !key.as_ref().is_none_or(SessionKey::is_valid) {
            return Poll::Ready(SessionEnd::Failed(Kind::KeyRevoked.into()));
        }
        match (&up, &down) {
            (Poll::Ready(Err(Broken::From(_))), _) | (_, Poll::Ready(Err(Broken::To(_)))) => {
                return Poll::Ready(SessionEnd::Left(Peer::Client));
            }
            (_, Poll::Ready(Err(Broken::From(error)))) | (Poll::Ready(Err(Broken::To(error))), _) => {
                return Poll::Ready(SessionEnd::Failed(self.upstream.broken(error)));
            }
            _ => {}
        }
        let closing = self.session.is_closing();
        // A WebSocket has no half-close: it ends with close frames, or when one side closes.
        match down {
            Poll::Ready(_) if closing => Poll::Ready(SessionEnd::Left(Peer::Upstream)),
            Poll::Ready(_) => Poll::Ready(SessionEnd::Failed(self.upstream.ended())),
            Poll::Pending if self.up.ended && !closing => Poll::Ready(SessionEnd::Left(Peer::Client)),
            Poll::Pending => self.poll_limits(cx, closing),
        }
    }

    /// `Ready` if both sides were silent for too long, or the total time is over.
    fn poll_limits(&mut self, cx: &mut Context<'_>, closing: bool) -> Poll<SessionEnd> {
        let now = Instant::now();
        if std::mem::take(&mut self.up.moved) | std::mem::take(&mut self.down.moved) {
            self.last = now;
        }
        let idle = self.upstream.timeouts().idle;
        loop {
            let silent = self.last + if closing { idle.min(CLOSING) } else { idle };
            let deadline = self.total.map_or(silent, |total| total.min(silent));
            if now >= deadline {
                return Poll::Ready(match self.total {
                    _ if closing => SessionEnd::Left(Peer::Client),
                    Some(total) if now >= total => SessionEnd::Failed(self.upstream.overdue()),
                    _ => SessionEnd::Failed(self.upstream.silent()),
                });
            }
            // The timer is reset when it fires early, and not for every message.
            if self.timer.deadline() > deadline.into() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline.into());
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return self.poll_limits(cx, closing);
            }
        }
    }

    /// Ends both directions within [`GOODBYE`], with a close frame of this code if one may be
    /// inserted.
    async fn write_close(&mut self, code: u16, reason: &str) {
        let to_client = self.session.takes_close(Peer::Upstream).then(|| close_frame(code, reason, None));
        let mask = fastrand::u32(..).to_ne_bytes();
        let (down, mut up) = (std::mem::take(&mut self.down.waiting), std::mem::take(&mut self.up.waiting));
        let takes_close = match &self.gate {
            // Whole frames have passed. Those that wait may ask for a response, and may have begun.
            Some(gate) => std::mem::take(&mut up).is_empty() && !gate.has_closed(),
            None => self.session.takes_close(Peer::Client),
        };
        let to_upstream = takes_close.then(|| close_frame(code, reason, Some(mask)));
        let client = end(&mut self.client, down, to_client.unwrap_or_default());
        let upstream = end(&mut self.upstream, up, to_upstream.unwrap_or_default());
        let _ = timeout(GOODBYE, async { tokio::join!(client, upstream) }).await;
    }
}

/// Waits until the switch is thrown, if there is one.
async fn thrown(cut: Option<&CutSwitch>) {
    match cut {
        Some(cut) => cut.thrown().await,
        None => std::future::pending().await,
    }
}

/// Writes the pending bytes and the last frame, and shuts the connection down.
async fn end(to: &mut (impl AsyncWrite + Unpin), waiting: Bytes, last: Vec<u8>) -> io::Result<()> {
    to.write_all(&waiting).await?;
    to.write_all(&last).await?;
    to.shutdown().await
}
