//! The record's fields about the group of its request: the attempts at its members.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::UsageRecord;
use super::entry::millis;
use super::error::{Error, Retry};
use super::row::MAX_TEXT;
use crate::llm::provider::Provider;
use crate::llm::usage::Usage;

/// The code of a stream whose first event is an error.
const FIRST_EVENT: &str = "first_event";

/// The longest error of an attempt, in bytes.
const MAX_ERROR: usize = 256;

/// The largest count in the ledger, whose integers have 63 bits.
const MAX_COUNT: u64 = i64::MAX.unsigned_abs();

/// The group of a request, and its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupUse {
    /// Empty for a list of models that is not a single group's.
    pub group: Arc<str>,
    /// The attempts are requests for lists of models, sent at the same time.
    pub is_list: bool,
    /// The time in the group's queue; `None`: the request did not wait.
    pub time_waiting_ms: Option<f64>,
    /// The attempts in their order. The last one is that of the response.
    pub attempts: Vec<AttemptRecord>,
    /// The group's retry budget did not allow another attempt.
    pub is_denied: bool,
    /// The upstreams that were left out because of this request, and the reasons.
    pub opened: Vec<(Arc<str>, &'static str)>,
    /// The handling of the request's conversation; `None`: no member was asked.
    pub sticky: Option<&'static str>,
    /// The client's SDK sent the request again.
    pub is_client_retry: bool,
    /// The place of the attempt whose response the client got; `None`: the last one.
    pub relayed: Option<usize>,
    /// The arrival of the request's head.
    started: Instant,
    /// The beginning of the wait that has not ended.
    waiting_since: Option<Instant>,
}

/// An attempt at a member. Its JSON is an item of the field `attempts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptRecord {
    pub upstream: Arc<str>,
    #[serde(serialize_with = "provider")]
    pub provider: Provider,
    /// The model in the request to the member.
    pub model: Option<Box<str>>,
    pub status: Option<u16>,
    pub error: Option<Box<str>>,
    /// The `code` of `error`.
    #[serde(skip)]
    pub code: Option<&'static str>,
    /// The time from the request's head to the beginning of the attempt.
    #[serde(skip)]
    pub started_ms: f64,
    /// The time from the beginning of the attempt to its end.
    pub ms: f64,
    /// The time from the beginning of the attempt to the head of its response.
    pub first_byte_ms: Option<f64>,
    /// The counts that it reported before its response was thrown away. The counts of the relayed
    /// response are those of the record.
    #[serde(rename = "tokens", serialize_with = "tokens")]
    pub usage: Option<Box<Usage>>,
    pub billed: Billed,
    /// The attempt has not ended.
    #[serde(skip)]
    is_open: bool,
}

/// The cost of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    No,
    /// A response may have been generated.
    Maybe,
    Yes,
}

impl Billed {
    fn of_status(status: u16) -> Self {
        match status {
            101 | 200..=299 => Self::Yes,
            408 | 504 => Self::Maybe,
            _ => Self::No,
        }
    }
}

impl GroupUse {
    /// `started` is the arrival of the request's head.
    pub fn new(group: Arc<str>, started: Instant) -> Self {
        Self {
            group,
            is_list: false,
            time_waiting_ms: None,
            attempts: Vec::new(),
            is_denied: false,
            opened: Vec::new(),
            sticky: None,
            is_client_retry: false,
            relayed: None,
            started,
            waiting_since: None,
        }
    }

    /// Notes that the request waits for a member.
    pub fn begin_wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// Notes that the request waits no longer.
    pub fn end_wait(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            let waited = millis(now.saturating_duration_since(since));
            *self.time_waiting_ms.get_or_insert_default() += waited;
        }
    }

    /// Returns true if an attempt has begun and not ended.
    pub fn is_attempting(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.is_open)
    }

    /// Begins an attempt at an upstream.
    pub fn begin(&mut self, upstream: Arc<str>, provider: Provider, model: Option<&str>, now: Instant) {
        let started_ms = self.since_start(now);
        self.attempts.push(AttemptRecord {
            upstream,
            provider,
            model: model.map(|model| storable(model, MAX_TEXT)),
            status: None,
            error: None,
            code: None,
            started_ms,
            ms: 0.0,
            first_byte_ms: None,
            usage: None,
            // The client may leave at any time from here on.
            billed: Billed::Maybe,
            is_open: true,
        });
    }

    /// Ends the attempt with a response that is thrown away. `at`: when its head had arrived.
    pub fn reject(&mut self, status: u16, at: Instant, now: Instant) {
        let (first_byte, now) = (self.since_start(at), self.since_start(now));
        if let Some(attempt) = self.end(now) {
            attempt.status = Some(status);
            attempt.first_byte_ms = Some(first_byte - attempt.started_ms);
            attempt.billed = Billed::of_status(status);
        }
    }

    /// Ends the attempt with a stream whose first event is an error of this name.
    pub fn reject_stream(&mut self, name: &str, at: Instant, now: Instant) {
        self.reject(200, at, now);
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.error = Some(storable(&format!("{FIRST_EVENT}: {name}"), MAX_ERROR));
            (attempt.code, attempt.billed) = (Some(FIRST_EVENT), Billed::No);
        }
    }

    /// Notes the usage that a response reported before it was thrown away. Its attempt was the last
    /// one that ended.
    pub fn record_usage(&mut self, usage: Usage) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        let counts = [usage.input_tokens, usage.output_tokens, usage.total_tokens];
        if counts.into_iter().flatten().any(|count| count > 0) {
            attempt.billed = Billed::Yes;
        }
        attempt.usage = Some(Box::new(usage));
    }

    /// Ends the attempt without a response.
    pub fn fail(&mut self, error: &Error, now: Instant) {
        let now = self.since_start(now);
        if let Some(attempt) = self.end(now) {
            attempt.error = Some(storable(&format!("{}: {error}", error.code()), MAX_ERROR));
            attempt.code = Some(error.code());
            let may_be_executed = error.retry() != Retry::NotSent;
            attempt.billed = if may_be_executed { Billed::Maybe } else { Billed::No };
        }
    }

    fn end(&mut self, now: f64) -> Option<&mut AttemptRecord> {
        let attempt = self.attempts.last_mut()?;
        (attempt.ms, attempt.is_open) = (now - attempt.started_ms, false);
        Some(attempt)
    }

    fn since_start(&self, at: Instant) -> f64 {
        millis(at.checked_duration_since(self.started).unwrap_or(Duration::ZERO))
    }

    /// Adds the group to a record that is closing. The record describes the attempt whose response
    /// the client got.
    pub(super) fn settle(mut self, row: &mut UsageRecord) {
        if let Some(since) = self.waiting_since {
            let ended = self.started + Duration::from_secs_f64(row.duration_ms / 1e3);
            self.end_wait(ended.max(since));
        }
        if self.is_list {
            self.attempts.iter_mut().for_each(|attempt| attempt.billed = Billed::No);
            if let [only] = &self.attempts[..] {
                (row.upstream, row.provider) = (Some(Arc::clone(&only.upstream)), Some(only.provider));
            }
            row.group_use = Some(Box::new(self));
            return;
        }
        let relayed = self.relayed.unwrap_or(self.attempts.len().saturating_sub(1));
        if let Some(last) = self.attempts.get_mut(relayed) {
            (row.upstream, row.provider) = (Some(Arc::clone(&last.upstream)), Some(last.provider));
            last.usage = None;
            if last.is_open {
                last.ms = row.duration_ms - last.started_ms;
                last.first_byte_ms = row.time_to_first_byte_ms.map(|at| at - last.started_ms);
                if let (Some(status), Some(_)) = (row.status, last.first_byte_ms) {
                    (last.status, last.billed) = (Some(status), Billed::of_status(status));
                }
            }
        }
        row.group_use = Some(Box::new(self));
    }

    /// The group's name, if there is one.
    pub fn group(&self) -> Option<&str> {
        Some(&*self.group).filter(|group| !group.is_empty())
    }

    /// The attempts, if there were several.
    pub fn several(&self) -> Option<&[AttemptRecord]> {
        Some(&self.attempts[..]).filter(|attempts| attempts.len() > 1)
    }
}

/// The beginning of a text, without NUL characters, which PostgreSQL's JSON cannot have.
fn storable(text: &str, most: usize) -> Box<str> {
    text[..text.floor_char_boundary(most)].replace('\0', "\u{FFFD}").into()
}

fn provider<S: Serializer>(provider: &Provider, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(provider.as_str())
}

/// The known counts, at most those that a column of the ledger can have.
fn tokens<S: Serializer>(usage: &Option<Box<Usage>>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(usage) = usage.as_deref() else { return serializer.serialize_none() };
    let counts = [
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("total_tokens", usage.total_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
        ("cache_write_input_tokens", usage.cache_write_input_tokens),
        ("cache_write_1h_input_tokens", usage.cache_write_1h_input_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ];
    serializer.collect_map(counts.into_iter().filter_map(|(name, count)| Some((name, count?.min(MAX_COUNT)))))
}

/// The fields of a record that a group adds.
pub(super) fn fields<S: Serializer>(
    group_use: &Option<Box<GroupUse>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields<'a> {
        group: Option<&'a str>,
        time_waiting_ms: Option<f64>,
        attempts: Option<&'a [AttemptRecord]>,
    }
    let group_use = group_use.as_deref();
    Fields {
        group: group_use.and_then(GroupUse::group),
        time_waiting_ms: group_use.and_then(|group_use| group_use.time_waiting_ms),
        attempts: group_use.and_then(GroupUse::several),
    }
    .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::record::error::Kind;
    use crate::record::{Entry, Journal, Outcome};

    #[test]
    fn attempts_are_closed_with_their_record() {
        let journal = Journal::new(1);
        let mut entry = Entry::open(&journal, &"anonymous".into());
        let started = entry.started();
        let after = |ms| started + Duration::from_millis(ms);
        let notes = entry.note_group("chat".into());
        notes.borrow_mut().begin("a".into(), Provider::Other, Some("m"), after(10));
        notes.borrow_mut().fail(&Kind::Unreachable.at("a"), after(30));
        notes.borrow_mut().begin("b".into(), Provider::OpenAi, None, after(30));
        notes.borrow_mut().reject(503, after(40), after(45));
        notes.borrow_mut().record_usage(Usage { input_tokens: Some(7), ..Usage::default() });
        notes.borrow_mut().begin("c".into(), Provider::OpenAi, None, after(50));
        entry.record_head(200, after(75));
        entry.close(Outcome::Complete);
        let row = journal.take().remove(0);
        assert_eq!((row.upstream.as_deref(), row.provider), (Some("c"), Some(Provider::OpenAi)));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!((&json["group"], &json["time_waiting_ms"]), (&"chat".into(), &Value::Null));
        let attempts = json["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 3);
        let first = &attempts[0];
        assert_eq!(
            (&first["upstream"], &first["model"], &first["ms"]),
            (&"a".into(), &"m".into(), &20.0.into())
        );
        assert!(first["error"].as_str().unwrap().starts_with("upstream_unreachable: "), "{first}");
        assert_eq!((&first["status"], &first["billed"]), (&Value::Null, &"no".into()));
        assert_eq!((&attempts[1]["status"], &attempts[1]["first_byte_ms"]), (&503.into(), &10.0.into()));
        assert_eq!((&attempts[2]["first_byte_ms"], &attempts[2]["billed"]), (&25.0.into(), &"yes".into()));
        assert_eq!(attempts[1]["tokens"], serde_json::json!({"input_tokens": 7}));
        assert_eq!((&attempts[1]["billed"], &attempts[1]["provider"]), (&"yes".into(), &"openai".into()));
        assert_eq!((&first["tokens"], &attempts[2]["tokens"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn usage_of_the_relayed_response_is_the_records_own() {
        let journal = Journal::new(1);
        let mut entry = Entry::open(&journal, &"anonymous".into());
        let notes = entry.note_group("chat".into());
        let usage = Usage { input_tokens: Some(7), ..Usage::default() };
        for upstream in ["a", "b"] {
            notes.borrow_mut().begin(upstream.into(), Provider::Other, None, Instant::now());
            notes.borrow_mut().reject(429, Instant::now(), Instant::now());
            notes.borrow_mut().record_usage(usage);
        }
        notes.borrow_mut().relayed = Some(0);
        drop(entry);
        let json = serde_json::to_value(journal.take().remove(0)).unwrap();
        let tokens = |number: usize| &json["attempts"][number]["tokens"];
        assert_eq!((tokens(0), tokens(1)), (&Value::Null, &serde_json::json!({"input_tokens": 7})));
    }

    #[test]
    fn response_without_tokens_is_not_billed() {
        let mut notes = GroupUse::new("chat".into(), Instant::now());
        notes.begin("a".into(), Provider::Other, None, Instant::now());
        notes.reject(503, Instant::now(), Instant::now());
        notes.record_usage(Usage { output_tokens: Some(0), ..Usage::default() });
        assert_eq!(notes.attempts[0].billed, Billed::No);
    }

    #[test]
    fn attempt_has_no_text_or_count_that_a_ledger_cannot_have() {
        let mut notes = GroupUse::new("chat".into(), Instant::now());
        let long = "\0é".repeat(MAX_TEXT);
        notes.begin("a".into(), Provider::Other, Some(&long), Instant::now());
        notes.reject_stream(&long, Instant::now(), Instant::now());
        notes.record_usage(Usage { input_tokens: Some(u64::MAX), ..Usage::default() });
        let json = serde_json::to_value(&notes.attempts[0]).unwrap();
        assert_eq!(json["tokens"], serde_json::json!({"input_tokens": i64::MAX}));
        for (key, most) in [("model", MAX_TEXT), ("error", MAX_ERROR)] {
            let text = json[key].as_str().unwrap();
            // A replaced character has two bytes more.
            assert!(
                text.contains('é') && !text.contains('\0') && text.len() <= 2 * most,
                "{key}: {}",
                text.len()
            );
        }
    }

    #[test]
    fn single_attempt_is_not_listed() {
        let journal = Journal::new(1);
        let mut entry = Entry::open(&journal, &"anonymous".into());
        entry.note_group("chat".into()).borrow_mut().begin("a".into(), Provider::Other, None, Instant::now());
        drop(entry);
        let json = serde_json::to_value(journal.take().remove(0)).unwrap();
        assert_eq!((&json["group"], &json["attempts"]), (&"chat".into(), &Value::Null));
        assert_eq!(json["upstream"], "a");
    }
}
