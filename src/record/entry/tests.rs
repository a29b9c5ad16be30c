use std::sync::mpsc;

use super::super::Estimator;
use super::super::row::MAX_TEXT;
use super::*;
use crate::llm::usage::{Room, StreamMeter, Usage};
use crate::record::{GroupUse, Outcome};

fn anonymous() -> Arc<str> {
    "anonymous".into()
}

#[test]
fn a_dropped_entry_is_recorded_as_a_client_that_left() {
    let journal = Journal::new(8);
    drop(Entry::open(&journal, &anonymous()));
    let rows = journal.take();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].outcome, Outcome::ClientDisconnected);
}

#[test]
fn an_entry_is_recorded_once() {
    let journal = Journal::new(8);
    let mut entry = Entry::open(&journal, &anonymous());
    entry.close(Outcome::Complete);
    entry.close(Outcome::Truncated);
    drop(entry);
    let rows = journal.take();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].outcome, Outcome::Complete);
}

#[test]
fn long_texts_are_cut_between_two_characters() {
    let journal = Journal::new(8);
    let mut entry = Entry::open(&journal, &anonymous());
    entry.row().user = Some("ü".repeat(5_000_000).into());
    entry.row().error = Some(format!("x{}", "ü".repeat(1000)).into());
    entry.row().model = Some("m".repeat(MAX_TEXT).into());
    entry.close(Outcome::Complete);
    let row = journal.take().remove(0);
    assert_eq!(row.user.unwrap(), "ü".repeat(512).into());
    assert_eq!(row.error.unwrap(), format!("x{}", "ü".repeat(511)).into());
    assert_eq!(row.model.unwrap().len(), MAX_TEXT);
}

#[test]
fn response_cut_at_shutdown_is_not_blamed_on_the_client() {
    let journal = Journal::new(8);
    let entry = Entry::open(&journal, &anonymous());
    journal.cut();
    drop(entry);
    assert_eq!(journal.take()[0].outcome, Outcome::Cut);
}

#[test]
fn a_client_that_had_left_before_the_cut_has_left() {
    let journal = Journal::new(8);
    let mut entry = Entry::open(&journal, &anonymous());
    entry.client_left();
    journal.cut();
    drop(entry);
    let row = journal.take().remove(0);
    assert_eq!(row.outcome, Outcome::ClientDisconnected);
    assert!(row.error.unwrap().contains("stopped"), "it says why nothing more was read");
}

#[test]
fn usage_is_partial_before_terminal_event_and_reported_after() {
    let usage = Some(Usage { input_tokens: Some(0), ..Usage::default() });
    for (terminal, ended, source) in [
        (false, false, UsageSource::Partial),
        (true, false, UsageSource::Reported),
        (false, true, UsageSource::Reported),
    ] {
        let journal = Journal::new(8);
        let mut entry = Entry::open(&journal, &anonymous());
        entry.metered(Tally { usage, terminal, ..Tally::default() }, ended);
        assert_eq!(entry.row().usage_source, source, "terminal {terminal}, ended {ended}");
        entry.client_left();
        entry.metered(Tally { usage, terminal, ..Tally::default() }, ended);
        let source = if source == UsageSource::Reported { UsageSource::Drained } else { source };
        assert_eq!(entry.row().usage_source, source, "drained: terminal {terminal}, ended {ended}");
    }
}

#[test]
fn an_id_is_a_version_7_uuid_and_none_comes_twice() {
    let ids: std::collections::HashSet<_> =
        (0..10_000).map(|_| new_id(Duration::from_secs(1_800_000_000))).collect();
    assert_eq!(ids.len(), 10_000);
    assert!(ids.iter().all(|id| id.get_version_num() == 7));
}

#[test]
fn notes_are_the_error_of_a_record_without_one() {
    let error = |own: Option<&str>| {
        let journal = Journal::new(8);
        let mut entry = Entry::open(&journal, &anonymous());
        entry.note(Note::LimitExceeded);
        entry.note(Note::ModelComesLater);
        entry.note(Note::LimitExceeded);
        entry.row().error = own.map(Into::into);
        entry.close(Outcome::Complete);
        journal.take().remove(0).error.unwrap()
    };
    assert_eq!(&*error(Some("own")), "own");
    let notes = error(None);
    assert!(
        notes.contains("?model=")
            && notes.ends_with("; a limit with at_limit = \"warn\" had no room for the request"),
        "{notes}"
    );
}

/// An observer that sends the names of its calls.
#[derive(Debug)]
struct Calls(mpsc::Sender<&'static str>);

impl UseObserver for Calls {
    fn on_progress(&mut self, _events: u64, _output_tokens: Option<u64>) -> Option<Error> {
        None
    }

    fn on_end(&mut self) {
        self.0.send("end").unwrap();
    }

    fn on_close(self: Box<Self>, _record: &UsageRecord) {
        self.0.send("close").unwrap();
    }
}

#[test]
fn observer_sees_end_and_record_with_and_without_an_estimate() {
    for has_thread in [true, false] {
        let journal = Journal::new(8);
        let estimator = has_thread.then(|| Estimator::spawn(&journal).unwrap());
        let mut entry = Entry::open(&journal, &anonymous());
        let (sender, calls) = mpsc::channel();
        entry.observe(Box::new(Calls(sender)));
        entry.keep_estimate_input(Shape::Embeddings, &Bytes::from_static(b"{\"input\":\"Hello\"}"));
        entry.metered(Tally { model: Some("m".into()), ..Tally::default() }, true);
        entry.close(Outcome::Complete);
        assert_eq!(calls.iter().collect::<Vec<_>>(), ["end", "close"], "{has_thread}");
        drop(estimator);
        assert_eq!(journal.take()[0].usage.input_tokens.is_some(), has_thread);
    }
}

#[test]
fn estimate_has_output_only_as_far_as_it_is_known() {
    const ROLE: &str = r#"data: {"model":"m","choices":[{"delta":{"role":"assistant","content":""}}]}"#;
    const TEXT: &str = r#"data: {"choices":[{"delta":{"content":"Hi"}}]}"#;
    const STOP: &str = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const ERROR: &str = r#"data: {"error":{"message":"no"}}"#;
    // None: there is no estimate. Otherwise true if the output is part of it.
    let estimate = |events: &[&str], end: &str| {
        let mut meter = StreamMeter::new();
        meter.keep_output(&Room::new(1 << 20));
        meter.push(events.iter().map(|event| format!("{event}\n\n")).collect::<String>().as_bytes());
        let journal = Journal::new(8);
        let mut entry = Entry::open(&journal, &anonymous());
        entry.keep_estimate_input(Shape::Chat, &Bytes::from_static(b"{\"messages\":[]}"));
        let mut tally = meter.into_tally();
        tally.broke_off = end == "cut";
        entry.row().events = Some(tally.events);
        entry.metered(tally, end == "whole");
        entry.open.estimate_input.take().map(|estimate_input| estimate_input.output.is_some())
    };
    for (events, end, expected) in [
        (&[ROLE, TEXT, STOP][..], "whole", Some(true)),
        (&[ROLE, STOP], "whole", Some(true)),
        (&[ROLE, TEXT], "cut", Some(true)),
        (&[ROLE, TEXT, ERROR], "whole", Some(true)),
        (&[ROLE, ERROR], "whole", None),
        (&[ERROR], "whole", None),
        (&[ROLE], "cut", Some(false)),
        (&[], "cut", Some(false)),
        (&[ROLE, TEXT], "left", Some(true)),
        (&[ROLE], "left", Some(true)),
        (&[], "left", Some(true)),
        (&[TEXT, "data: {bad", STOP], "whole", Some(false)),
    ] {
        assert_eq!(estimate(events, end), expected, "{events:?} {end}");
    }
}

/// glibc keeps freed memory of up to 1,032 bytes at hand.
#[test]
fn entry_is_memory_that_is_taken_and_freed_quickly() {
    assert!(size_of::<Open>() <= 1_032, "{} bytes", size_of::<Open>());
    assert!(size_of::<GroupUse>() <= 64, "{} bytes", size_of::<GroupUse>());
}
