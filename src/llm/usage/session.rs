//! The meters of WebSocket sessions: realtime sessions and those of `responses`.

use std::collections::VecDeque;

use super::calls::CallCounts;
use super::cost;
use super::extracted::{EventKind, Extracted};
use super::scan::Scan;
use super::{Cause, Progress, Tally, Usage};

/// Reads the messages of a service in one session, each in pieces of any size.
///
/// Usage comes with every response (realtime: `response.done`; `responses`: `response.completed`,
/// `.incomplete`, `.failed`), and the session's usage is their sum. A transcription of the input
/// (`conversation.item.input_audio_transcription.completed`) is another model's work at its own
/// rate: its seconds are counted, its tokens only in a session without responses. Usage elsewhere
/// and unfinished responses do not count, and neither does a second end of a response with the same
/// id, which some services send (`response.completed`, then `response.done`). `Tally::events` is the
/// number of ended responses. Binary messages are read like text, as the services do.
///
/// ```
/// use streamgauge::llm::usage::SessionMeter;
///
/// let mut meter = SessionMeter::new();
/// for _ in 0..2 {
///     meter.data(br#"{"type":"response.done","response":{"usage":{"input_tok"#);
///     meter.data(br#"ens":3,"output_tokens":1}}}"#);
///     meter.message_end();
/// }
/// let tally = meter.into_tally();
/// assert_eq!(tally.usage.and_then(|usage| usage.input_tokens), Some(6));
/// assert_eq!((tally.events, tally.usage_reports), (2, 2));
/// ```
#[derive(Debug, Default)]
pub struct SessionMeter {
    /// The scan of the current message.
    scan: Option<Box<Scan>>,
    tally: Tally,
    /// The sum of the transcriptions' usage.
    transcribed: Option<Usage>,
    /// Responses under way.
    under_way: u64,
    /// Responses that have begun.
    begun: u64,
    /// The ids of the latest responses that ended, and whether their usage was counted.
    ended: VecDeque<(Box<str>, bool)>,
    /// Responses that did not fail.
    succeeded: u64,
    first_token: bool,
    /// The steps since they were taken last. `None`: they are not wanted.
    steps: Option<Vec<TurnStep>>,
}

/// A step of a turn, as a service's message shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnStep {
    Begun,
    /// A message with output.
    Output,
    /// The response has ended, with its usage if that is reported.
    Ended(Option<Usage>),
    /// The service refuses a message, with the client's own id of it if the service names one.
    Refused(Option<Box<str>>),
}

/// Responses whose ids are remembered. A second end follows the first one closely.
const REMEMBERED: usize = 16;

impl SessionMeter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the steps of turns, for [`Self::take_steps`].
    pub fn keep_steps(&mut self) {
        self.steps = Some(Vec::new());
    }

    /// The steps of turns since the last call.
    pub fn take_steps(&mut self) -> Vec<TurnStep> {
        self.steps.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The number of responses that have begun.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Reads a piece of a message, text or binary.
    pub fn data(&mut self, piece: &[u8]) {
        let scan = self.scan.get_or_insert_with(|| {
            let mut scan = Scan::new();
            scan.keep_id(true);
            Box::new(scan)
        });
        scan.push(piece, None);
    }

    /// The cause of the first error, if there was one and no response or transcription succeeded.
    pub fn failure(&self) -> Option<Cause> {
        (self.succeeded == 0 && self.tally.error.is_some()).then_some(self.tally.cause)
    }

    /// Returns true if a response has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Ends the current message.
    pub fn message_end(&mut self) -> Progress {
        let mut progress = Progress { events: 1, ..Progress::default() };
        let scan = self.scan.take();
        self.tally.skipped += u64::from(scan.as_ref().is_some_and(|scan| scan.begins() && !scan.complete()));
        if let Some(extracted) = scan.and_then(|scan| scan.into_whole()) {
            progress.first_token = extracted.content && !self.first_token;
            self.first_token |= extracted.content;
            if extracted.content {
                self.note(TurnStep::Output);
            }
            self.take(extracted);
        }
        progress
    }

    /// The session's tally, which is `terminal` if no response was under way.
    pub fn into_tally(self) -> Tally {
        let Self { mut tally, transcribed, under_way, .. } = self;
        tally.terminal = under_way == 0;
        tally.usage = match (tally.usage, transcribed) {
            (None, transcribed) => transcribed,
            (Some(responses), transcribed) => {
                let seconds = Usage {
                    billed_seconds: transcribed.and_then(|usage| usage.billed_seconds),
                    ..Usage::default()
                };
                Some(responses.plus(seconds))
            }
        };
        tally
    }

    fn note(&mut self, step: TurnStep) {
        if let Some(steps) = &mut self.steps {
            steps.push(step);
        }
    }

    fn take(&mut self, mut extracted: Extracted) {
        let counted = extracted.counted_calls();
        let report = extracted.take_report().map(|report| *report).unwrap_or_default();
        let usage = report.counts;
        self.tally.skipped += u64::from(extracted.too_large);
        let mut ending = Ending::First;
        if matches!(extracted.kind, EventKind::Done | EventKind::Completed) {
            ending = self.ending(extracted.take_result().0, usage.is_some());
            if ending == Ending::Again {
                return;
            }
        }
        let sum = match extracted.kind {
            EventKind::Begun => {
                self.under_way += 1;
                self.begun += 1;
                self.note(TurnStep::Begun);
                None
            }
            EventKind::Done | EventKind::Completed => {
                if ending == Ending::First {
                    self.under_way = self.under_way.saturating_sub(1);
                    self.tally.events += 1;
                    self.succeeded += u64::from(!extracted.has_failed());
                    self.note(TurnStep::Ended(usage));
                }
                let reported = report.calls.or(counted);
                let calls =
                    CallCounts { reported, listed: extracted.listed_calls(), ..CallCounts::default() };
                if calls != CallCounts::default() {
                    let sum = self.tally.calls.get_or_insert_default();
                    sum.reported = sum.reported.plus(calls.total());
                }
                self.tally.reported_cost = match (self.tally.reported_cost.take(), report.cost) {
                    (Some(sum), Some(cost)) => cost::plus(&sum, &cost),
                    (sum, cost) => sum.or(cost),
                };
                self.tally.unread = report.unread.or(self.tally.unread.take());
                let tier = extracted.take_tier().or(report.tier);
                self.tally.service_tier = tier.or(self.tally.service_tier.take());
                self.tally.usage_reports += u64::from(usage.is_some());
                Some(&mut self.tally.usage)
            }
            EventKind::Transcribed => {
                self.succeeded += 1;
                Some(&mut self.transcribed)
            }
            EventKind::Error => {
                self.note(TurnStep::Refused(extracted.refused_id.take()));
                None
            }
            _ => None,
        };
        if let (Some(sum), Some(usage)) = (sum, usage) {
            *sum = Some(sum.unwrap_or_default().plus(usage));
        }
        if self.tally.model.is_none() {
            self.tally.model = extracted.take_model();
        }
        self.tally.take_error(&mut extracted, false);
    }

    /// Registers the end of a response with this id.
    fn ending(&mut self, id: Option<Box<str>>, has_usage: bool) -> Ending {
        let Some(id) = id else { return Ending::First };
        match self.ended.iter_mut().find(|(ended, _)| *ended == id) {
            Some((_, is_counted)) if has_usage && !*is_counted => {
                *is_counted = true;
                Ending::Late
            }
            Some(_) => Ending::Again,
            None => {
                self.ended.truncate(REMEMBERED - 1);
                self.ended.push_front((id, has_usage));
                Ending::First
            }
        }
    }
}

/// The place of a message among those that end one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    First,
    /// A later one, with the usage that the first one lacked.
    Late,
    /// A later one that adds nothing.
    Again,
}

/// Reads the messages of a client in one session until one names a model: the first
/// `response.create` with a model.
#[derive(Debug, Default)]
pub struct AskedModel {
    /// The scan of the current message.
    scan: Option<Box<Scan>>,
    model: Option<Box<str>>,
}

impl AskedModel {
    /// Reads a piece of a message, text or binary.
    pub fn data(&mut self, piece: &[u8]) {
        if self.model.is_none() {
            self.scan.get_or_insert_with(|| Box::new(Scan::new())).push(piece, None);
        }
    }

    /// Ends the current message.
    pub fn message_end(&mut self) {
        let extracted = self.scan.take().and_then(|scan| scan.into_whole());
        if let Some(mut extracted) = extracted.filter(|extracted| extracted.kind == EventKind::Asked) {
            self.model = extracted.take_model();
        }
    }

    pub fn into_model(self) -> Option<Box<str>> {
        self.model
    }
}

#[cfg(test)]
mod tests;
