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
    assert_eq!((&first["upstream"], &first["model"], &first["ms"]), (&"a".into(), &"m".into(), &20.0.into()));
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
    notes.borrow_mut().note_relayed(0);
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
    assert_eq!(notes.attempts().last().unwrap().billed, Billed::No);
}

#[test]
fn attempt_has_no_text_or_count_that_a_ledger_cannot_have() {
    let mut notes = GroupUse::new("chat".into(), Instant::now());
    let long = "\0é".repeat(MAX_TEXT);
    notes.begin("a".into(), Provider::Other, Some(&long), Instant::now());
    notes.reject_stream(&long, Instant::now(), Instant::now());
    notes.record_usage(Usage { input_tokens: Some(u64::MAX), ..Usage::default() });
    let json = serde_json::to_value(notes.attempts().last().unwrap()).unwrap();
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
