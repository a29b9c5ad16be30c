use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::sinks::ledger::output::numbers::width_of;

/// Characters that control a terminal, turn its lines around, or are wide.
const ODD: [&str; 4] =
    ["\u{1b}[2J\u{1b}[31mred\u{7}", "a\u{202e}dessik\u{2066}", "通义千问-max-通义千问", "🦀e\u{301}\r\n"];

fn stream(number: u64, client: &str) -> Value {
    json!({
        "id": number.to_string(), "started_at": "2026-12-01T12:00:00Z", "client": client, "user": "ada",
        "model": "gpt-4.1-mini-2025-04-14", "upstream": "azure", "events": 40 * number,
        "output_tokens": null, "time_to_first_token_ms": 340.2, "duration_ms": 4340.2 + number as f64
    })
}

fn usage(requests: u64) -> Value {
    json!({"time_zone": "Europe/Berlin", "total": {
        "requests": requests, "failed_requests": 2, "input_tokens": 48_213, "cached_input_tokens": 12_000,
        "output_tokens": 9_812, "estimated_input_tokens": 0, "estimated_output_tokens": 7,
        "cost": {"USD": 0.42}, "requests_without_price": 0
    }})
}

fn reading(streams: Vec<Value>, members: usize, limits: usize) -> Reading {
    let running = json!({"running": streams.len(), "streams": streams, "unlisted": 0});
    let member = |number: usize| {
        let out =
            json!({"reason": "failures", "since": "2026-12-01T12:00:00Z", "until": "2026-12-01T12:00:30Z"});
        json!({
            "upstream": format!("member-{number}"), "model": null, "tier": 1, "weight": 1, "running": 3,
            "available": number != 1, "out": if number == 1 { out } else { Value::Null }, "models": [], "unlisted": 0
        })
    };
    let members: Vec<_> = (0..members).map(member).collect();
    let limit = |number: usize| {
        json!({
            "whose": format!("client c{number}"), "key": "", "counts": "tokens per day", "used": 900_000, "limit": 1_000_000,
            "used_ratio": 0.9, "waiting": 0, "period": {"since": "2026-11-30T23:00:00Z", "until": "2026-12-01T23:00:00Z"}
        })
    };
    let limits: Vec<_> = (0..limits).map(limit).collect();
    let groups = if members.is_empty() {
        json!([])
    } else {
        json!([{"name": "chat", "waiting": 2, "members": members}])
    };
    let sums = |requests| serde_json::from_value(usage(requests)).unwrap();
    Reading {
        at: "2026-12-01T12:00:04Z".parse().unwrap(),
        taken: Instant::now(),
        running: serde_json::from_value(running).unwrap(),
        groups: serde_json::from_value(json!({"groups": groups})).unwrap(),
        limits: serde_json::from_value(json!({"limits": limits, "unlisted": 0})).unwrap(),
        status: serde_json::from_value(json!({"generation": 4, "refused": null})).unwrap(),
        sums: Ok(super::super::reading::Sums { minute: sums(120), today: sums(12_345) }),
    }
}

fn shown(reading: &Reading, width: usize, height: usize, failure: Option<&str>) -> Vec<String> {
    let speeds = Speeds::of(reading);
    let address = "127.0.0.1:9090".parse().unwrap();
    let view = View::new(&address, reading, &speeds, StreamOrder::Tokens);
    frame(&view.with_failure(failure), width, height).iter().map(Line::text).collect()
}

#[test]
fn frame_of_80_columns_shows_everything() {
    let reading = reading(vec![stream(1, "search"), stream(2, "support-bot")], 2, 1);
    let lines = shown(&reading, 80, 24, None);
    assert_eq!(lines.join("\n").trim_end(), EXPECTED.trim_end());
}

/// The frame of the documentation.
const EXPECTED: &str = r"streamgauge  127.0.0.1:9090  configuration 4              13:00:04 Europe/Berlin
             REQUESTS  FAILED   INPUT  CACHED  OUTPUT     COST
last minute       120    1.7%  48,213   24.9%  ~9,812  $0.4200
today          12,345    0.1%  48,213   24.9%  ~9,812  $0.4200

Running now  2 streams, 30 tokens/s, 2 requests wait
CLIENT       USER  MODEL                  UPSTREAM  TOKENS  TOK/S   FIRST   TIME
support-bot  ada   gpt-4.1-mi…2025-04-14  azure        ~80     20  340 ms  4.3 s
search       ada   gpt-4.1-mi…2025-04-14  azure        ~40     10  340 ms  4.3 s

Members of groups  2  1 out or limited
GROUP  MEMBER    TIER  RUNNING  STATE
chat   member-1     1        3  out until 13:00:30: failures
chat   member-0     1        3  available

Limits  1  1 near or above
OF         COUNTS            USED  LIMIT  PART  WAIT        AGAIN
client c0  tokens per day  900.0k   1.0M   90%     0  12-02 00:00





q quit   s order: tokens   r read now";

#[test]
fn frame_has_exactly_the_size_of_its_terminal() {
    for (streams, members, limits) in [(0, 0, 0), (1, 0, 3), (60, 9, 20), (3, 40, 1)] {
        let streams = (0..streams).map(|number| stream(number, ODD[number as usize % 4])).collect();
        let reading = reading(streams, members, limits);
        for width in [0, 1, 7, 20, 40, 79, 80, 120] {
            for height in [0, 1, 2, 5, 8, 13, 24, 40] {
                let lines = shown(&reading, width, height, None);
                assert_eq!(lines.len(), height, "{width}x{height}");
                assert!(lines.iter().all(|line| width_of(line) <= width), "{width}x{height}: {lines:#?}");
            }
        }
    }
}

#[test]
fn rows_without_room_are_counted() {
    let streams = (0..60).map(|number| stream(number, "search")).collect();
    let lines = shown(&reading(streams, 9, 20), 80, 24, None).join("\n");
    assert!(lines.contains("60 streams"), "{lines}");
    // Four lines each remain at most: 24 - 1 - 4 - 3 · 3 = 10.
    for more in ["and 57 more", "and 7 more", "and 18 more"] {
        assert!(lines.contains(more), "{more}: {lines}");
    }
}

#[test]
fn unwell_members_come_first() {
    let lines = shown(&reading(Vec::new(), 9, 0), 80, 12, None).join("\n");
    assert!(lines.contains("1 out or limited"), "{lines}");
    assert!(lines.contains("member-1") && lines.contains("out until 13:00:30: failures"), "{lines}");
}

#[test]
fn frame_says_why_it_is_old() {
    let reading = reading(Vec::new(), 0, 0);
    let lines = shown(&reading, 80, 24, Some("Connection refused"));
    assert_eq!(lines[23], "no reading since 13:00:04: Connection refused; trying again");
}

#[test]
fn odd_names_cannot_control_the_terminal() {
    let reading = reading(ODD.map(|name| stream(1, name)).to_vec(), 0, 0);
    for line in shown(&reading, 80, 24, Some(ODD[0])) {
        assert!(line.chars().all(|c| !c.is_control() && !"\u{202e}\u{2066}".contains(c)), "{line:?}");
    }
}

#[test]
fn text_has_every_row() {
    let reading = reading((0..60).map(|number| stream(number, "search")).collect(), 9, 20);
    let speeds = Speeds::of(&reading);
    let address = "127.0.0.1:9090".parse().unwrap();
    let view = View::new(&address, &reading, &speeds, StreamOrder::Time);
    let text = text(&view, 80);
    assert_eq!(text.matches("search").count(), 60);
    assert!(!text.contains("more") && !text.contains("quit"), "{text}");
}

#[test]
fn order_of_streams_is_the_chosen_one() {
    let reading = reading(vec![stream(1, "a"), stream(3, "b"), stream(2, "c")], 0, 0);
    let speeds = Speeds::of(&reading);
    for (order, expected) in [
        (StreamOrder::Tokens, "bca"),
        (StreamOrder::Client, "abc"),
        (StreamOrder::Time, "bca"),
        (StreamOrder::Speed, "bca"),
    ] {
        let sorted = tables::sorted(&reading.running.streams, &speeds, order);
        assert_eq!(sorted.iter().map(|stream| &*stream.client).collect::<String>(), expected, "{order:?}");
    }
}
