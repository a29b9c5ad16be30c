//! Helpers for the tests of this module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Number, Value};

use super::columns::{RESERVED, text_field};
use super::sink::Batch;
use crate::llm::provider::Provider;
use crate::llm::usage::{ToolCalls, ToolKind, Usage};
use crate::record::{Entry, GroupUse, Journal, Outcome, UsageRecord, UsageSource};
use crate::support::tags::{Tag, TagName, Tags};

/// Records of all kinds: all fields known, none known, and in between.
pub(super) fn records(count: usize) -> Vec<UsageRecord> {
    let journal = Journal::new(count);
    for number in 0..count {
        let mut entry = Entry::open(&journal, &format!("client-{}", number % 3).into());
        let row = entry.row();
        row.started_at = Timestamp::new(1_780_000_000 + number as i64 * 977, 123_456_789).unwrap();
        if number % 5 != 0 {
            row.user = Some("Zoë \"quoted\"\n\u{0}".into());
            row.upstream = Some(["openai", "azure"][number % 2].into());
            row.provider = Some([Provider::OpenAi, Provider::Azure][number % 2]);
            row.method = Some(http::Method::POST);
            row.endpoint = Some(["chat/completions", "messages"][usize::from(number % 13 == 0)].into());
            row.model_requested = Some("gpt".into());
            row.model = (number % 7 != 0).then(|| format!("gpt-{}", number % 4).into());
            row.stream = number % 3 == 0;
            row.status = Some(200);
            row.usage_source = match number {
                number if number % 11 == 0 => UsageSource::Partial,
                number if number % 19 == 0 => UsageSource::Estimated,
                _ => UsageSource::Reported,
            };
            row.usage = Usage {
                input_tokens: Some(number as u64),
                output_tokens: (number % 2 == 0).then_some(0),
                total_tokens: (number % 17 != 0).then_some(number as u64 * 3),
                cached_input_tokens: (number % 4 == 0).then_some(7),
                reasoning_tokens: (number % 6 == 0).then_some(1),
                cache_write_1h_input_tokens: (number % 10 == 0).then_some(5),
                billed_seconds: (number % 9 == 0).then_some(0.25),
                ..Usage::default()
            };
            row.service_tier = (number % 4 == 1).then_some("flex".into());
            row.tool_calls = (number % 6 == 1).then(|| {
                let mut calls = ToolCalls::default();
                calls.add(ToolKind::WebSearch, number as u64);
                calls.add(ToolKind::FileSearch, 1);
                calls
            });
            row.reported_cost = (number % 7 == 1).then(|| "0.00054005".into());
            row.key_id = (number % 3 == 1).then(|| format!("{:08x}", number % 2).into());
            row.tags = (number % 4 == 3).then(|| {
                let tag = |name, value: &str| Tag {
                    name: TagName::parse(name).unwrap(),
                    value: value.into(),
                    is_in_metrics: false,
                };
                let feature = (number % 3 == 1).then(|| tag("feature", "f1"));
                let team = tag("team", ["search", "a \"b\""][number % 8 / 4]);
                Arc::new(Tags::new(feature.into_iter().chain([team])))
            });
            row.time_waiting_ms = (number % 8 == 2).then_some(1.5);
            row.group_use = (number % 4 == 2).then(|| {
                let now = Instant::now();
                let mut group = GroupUse::new("chat".into(), now);
                let attempts = number % 3;
                for attempt in 0..attempts {
                    let is_last = attempt + 1 == attempts;
                    let name = if is_last { "azure" } else { "openai" };
                    group.begin(name.into(), Provider::Azure, Some("gpt \"x\""), now);
                    group.reject(503, now, now + attempt as u32 * Duration::from_millis(250));
                    let input_tokens = Some(number as u64);
                    let usage = Usage { input_tokens, output_tokens: Some(2), ..Usage::default() };
                    // The usage of the last one is the record's own.
                    let last = group.attempts_mut().last_mut().unwrap();
                    last.usage = (!is_last).then(|| Box::new(usage));
                }
                Box::new(group)
            });
            row.events = (number % 3 == 0).then_some(12);
            row.request_bytes = 100;
            row.response_bytes = u64::from(u32::MAX) + 1;
            row.time_to_first_byte_ms = Some(0.125);
            row.time_to_first_token_ms = Some(17.5);
            row.upstream_request_id = Some("req_1".into());
            row.error = (number % 8 == 0).then(|| "it broke".into());
        }
        entry.close([Outcome::Complete, Outcome::Rejected][usize::from(number % 5 == 0)]);
    }
    journal.take()
}

pub(super) fn batch(count: usize) -> Batch {
    Arc::new(records(count))
}

/// The rows in the form of the JSON lines, in the order of writing.
pub(super) fn rows(connection: &Connection) -> Vec<Value> {
    let mut statement = connection.prepare("SELECT * FROM usage_records ORDER BY seq").unwrap();
    let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let mut object = Map::new();
        let is_field = |name: &str| name != "seq" && !RESERVED.iter().any(|(reserved, _)| *reserved == name);
        for (index, name) in names.iter().enumerate().filter(|(_, name)| is_field(name)) {
            let value = match (name.as_str(), row.get_ref(index).unwrap()) {
                ("started_at", ValueRef::Integer(at)) => {
                    Timestamp::from_nanosecond(at.into()).unwrap().to_string().into()
                }
                ("stream", ValueRef::Integer(stream)) => (stream != 0).into(),
                (_, ValueRef::Null) => Value::Null,
                (_, ValueRef::Integer(number)) => number.into(),
                (_, ValueRef::Real(number)) => Value::Number(Number::from_f64(number).unwrap()),
                (name, ValueRef::Text(text)) => {
                    text_field(name, std::str::from_utf8(text).unwrap().to_owned())
                }
                (_, ValueRef::Blob(_)) => panic!("{name} is a blob"),
            };
            object.insert(name.clone(), value);
        }
        found.push(Value::Object(object));
    }
    found
}

/// The number of rows that another connection sees.
pub(super) fn count_at(path: &std::path::Path) -> usize {
    let connection = Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get::<_, i64>(0)).unwrap()
        as usize
}
