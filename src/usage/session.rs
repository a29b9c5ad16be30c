//! The meters of sessions: realtime ones, and those of `responses`.

use super::calls::CallCounts;
use super::cost;
use super::found::{Announces, Found};
use super::scan::Scan;
use super::{Progress, Tally, Usage};

/// Reads what a service sends in one session, message by message, each in pieces of any size.
///
/// Usage comes with every response (realtime: `response.done`; `responses`: `response.completed`,
/// `.incomplete`, `.failed`) and is the sum of them. What a transcription of the input reports
/// (`conversation.item.input_audio_transcription.completed`) is another model's work and billed at
/// its rate: its seconds are counted, and its tokens only in a session without responses, where
/// they are the session's own. Usage anywhere else, and a response that is still under way, counts
/// nothing. The tally's events are the responses that have ended.
///
/// ```
/// use streamgauge::usage::SessionMeter;
///
/// let mut meter = SessionMeter::new();
/// for _ in 0..2 {
///     meter.text(br#"{"type":"response.done","response":{"usage":{"input_tok"#);
///     meter.text(br#"ens":3,"output_tokens":1}}}"#);
///     meter.message_end();
/// }
/// let tally = meter.into_tally();
/// assert_eq!(tally.usage.and_then(|usage| usage.input_tokens), Some(6));
/// assert_eq!((tally.events, tally.usage_reports), (2, 2));
/// ```
#[derive(Debug, Default)]
pub struct SessionMeter {
    /// The scan of the message that has begun.
    scan: Option<Box<Scan>>,
    tally: Tally,
    /// What transcriptions have reported.
    transcribed: Option<Usage>,
    /// Responses that have begun and not ended.
    under_way: u64,
    first_token: bool,
}

impl SessionMeter {
    /// A meter at the start of a session.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a piece of a text message.
    pub fn text(&mut self, piece: &[u8]) {
        self.scan.get_or_insert_with(|| Box::new(Scan::new())).push(piece, None);
    }

    /// A message has ended, text or not.
    pub fn message_end(&mut self) -> Progress {
        let mut progress = Progress { events: 1, ..Progress::default() };
        if let Some(found) = self.scan.take().and_then(|scan| scan.into_whole()) {
            progress.first_token = found.content && !self.first_token;
            self.first_token |= found.content;
            self.take(found);
        }
        progress
    }

    /// What is known at the end. It is final if no response was under way.
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

    fn take(&mut self, mut found: Found) {
        let counted = found.counted_calls();
        let report = found.take_report().map(|report| *report).unwrap_or_default();
        let usage = report.counts;
        self.tally.skipped += u64::from(found.too_large);
        let sum = match found.announces {
            Announces::Begun => {
                self.under_way += 1;
                None
            }
            Announces::Done | Announces::Completed => {
                self.under_way = self.under_way.saturating_sub(1);
                self.tally.events += 1;
                let reported = report.calls.or(counted);
                let calls = CallCounts { reported, listed: found.listed_calls(), ..CallCounts::default() };
                if calls != CallCounts::default() {
                    let sum = self.tally.calls.get_or_insert_default();
                    sum.reported = sum.reported.plus(calls.total());
                }
                self.tally.reported_cost = match (self.tally.reported_cost.take(), report.cost) {
                    (Some(sum), Some(cost)) => cost::plus(&sum, &cost),
                    (sum, cost) => sum.or(cost),
                };
                self.tally.unread = report.unread.or(self.tally.unread.take());
                let tier = found.take_tier().or(report.tier);
                self.tally.service_tier = tier.or(self.tally.service_tier.take());
                self.tally.usage_reports += u64::from(usage.is_some());
                Some(&mut self.tally.usage)
            }
            Announces::Transcribed => Some(&mut self.transcribed),
            _ => None,
        };
        if let (Some(sum), Some(usage)) = (sum, usage) {
            *sum = Some(sum.unwrap_or_default().plus(usage));
        }
        if self.tally.model.is_none() {
            self.tally.model = found.take_model();
        }
        self.tally.take_error(&mut found, false);
    }
}

/// Reads what a client sends in one session, until it has said which model it wants: the first
/// `response.create` that names one, in pieces of any size.
#[derive(Debug, Default)]
pub struct AskedModel {
    /// The scan of the message that has begun.
    scan: Option<Box<Scan>>,
    model: Option<Box<str>>,
}

impl AskedModel {
    /// Reads a piece of a text message.
    pub fn text(&mut self, piece: &[u8]) {
        if self.model.is_none() {
            self.scan.get_or_insert_with(|| Box::new(Scan::new())).push(piece, None);
        }
    }

    /// A message has ended, text or not.
    pub fn message_end(&mut self) {
        let found = self.scan.take().and_then(|scan| scan.into_whole());
        if let Some(mut found) = found.filter(|found| found.announces == Announces::Asked) {
            self.model = found.take_model();
        }
    }

    /// The model, if one was named.
    pub fn into_model(self) -> Option<Box<str>> {
        self.model
    }
}

#[cfg(test)]
mod tests;
