//! Compares the meters with the oracle on random documents with usage and with values that only
//! resemble it.

use fastrand::Rng;

/// Keys that lead to usage, and some that do not.
const KEYS: [&str; 30] = [
    "usage",
    "usage",
    "response",
    "message",
    "choices",
    "x_groq",
    "delta",
    "model",
    "type",
    "error",
    "provider_metadata",
    "usage_breakdown",
    "arguments",
    "output",
    "output",
    "usageMetadata",
    "modelVersion",
    "interaction",
    "meta",
    "item",
    "object",
    "object",
    "index",
    "finish_reason",
    "tool_usage",
    "web_search",
    "num_requests",
    "service_tier",
    "action",
    "session",
];

/// Values that have a meaning at the right place, and none at any other.
const SAYINGS: [&str; 32] = [
    r#"{"prompt_tokens":1}"#,
    r#"{"prompt_tokens":3,"completion_tokens":2.0,"total_tokens":"5"}"#,
    r#"{"input_tokens":0,"output_tokens":0}"#,
    r#"{"input_tokens":-1,"output_tokens":1.5}"#,
    r#"{"input_tokens":null,"usage":{"input_tokens":7}}"#,
    r#"{"type":"duration","seconds":1.25}"#,
    "{}",
    "null",
    r#""\"usage\":{\"prompt_tokens\":1}""#,
    r#""{\"usage\":{\"prompt_tokens\":1,\"total_tokens\":9}}""#,
    r#""usage""#,
    r#""m""#,
    r#""message_delta""#,
    r#""image_generation.completed""#,
    r#"[{"usage":{"prompt_tokens":4}}]"#,
    "7",
    r#"{"promptTokenCount":4,"candidatesTokenCount":2,"toolUsePromptTokenCount":9,"serviceTier":"standard"}"#,
    r#"{"promptTokenCount":4,"trafficType":"ON_DEMAND_FLEX"}"#,
    r#"{"total_input_tokens":1,"strange_tokens":4}"#,
    r#"{"counts":{"new_tokens":4},"total_tokens":4}"#,
    r#"{"cost":0.5,"service_tier":"flex"}"#,
    r#"{"cost":{"total_cost":1e-05},"cost_in_usd_ticks":7,"prompt_tokens":1}"#,
    r#"{"tokens":{"input_tokens":3},"billed_units":{"output_tokens":1,"search_units":2},"cached_tokens":1}"#,
    r#"{"server_tool_use":{"web_search_requests":2},"num_sources_used":1,"output_tokens":3}"#,
    r#""text_completion""#,
    r#""stop""#,
    r#""response.output_item.done""#,
    r#""response.completed""#,
    r#"{"type":"web_search_call","action":{"type":"open_page"}}"#,
    r#"{"type":"file_search_call"}"#,
    r#"[{"type":"web_search_call"},{"action":{"type":"search"},"type":"web_search_call"}]"#,
    r#"[{"index":0,"finish_reason":"stop","text":"x"}]"#,
];

/// The members of a usage object, and strange ones.
const COUNTS: [&str; 31] = [
    "prompt_tokens",
    "input_tokens",
    "promptTokenCount",
    "total_input_tokens",
    "completion_tokens",
    "output_tokens",
    "candidatesTokenCount",
    "total_output_tokens",
    "total_tokens",
    "totalTokenCount",
    "cache_read_input_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "num_cached_tokens",
    "cachedContentTokenCount",
    "total_cached_tokens",
    "cache_creation_input_tokens",
    "reasoning_tokens",
    "thoughtsTokenCount",
    "total_thought_tokens",
    "cost_in_usd_ticks",
    "num_search_queries",
    "num_sources_used",
    "type",
    "seconds",
    "prompt_audio_seconds",
    "service_tier",
    "cost",
    "prompt_tokenz",
    "usage",
    "",
];

/// Objects in it.
const OBJECTS: [&str; 12] = [
    "prompt_tokens_details",
    "input_tokens_details",
    "prompt_token_details",
    "input_token_details",
    "completion_tokens_details",
    "output_tokens_details",
    "completion_token_details",
    "output_token_details",
    "cache_creation",
    "server_tool_use",
    "tokens",
    "billed_units",
];

/// Their members.
const DETAILS: [&str; 11] = [
    "cached_tokens",
    "cache_write_tokens",
    "cache_creation_tokens",
    "cache_creation_token_details",
    "reasoning_tokens",
    "audio_tokens",
    "ephemeral_1h_input_tokens",
    "web_search_requests",
    "input_tokens",
    "output_tokens",
    "search_units",
];

/// Values of counts.
const NUMBERS: [&str; 12] = [
    "0",
    "7",
    "19",
    "123456789012345",
    "2.0",
    "1.5",
    "-1",
    "1e2",
    "null",
    "\"12\"",
    "\"duration\"",
    "{\"ephemeral_1h_input_tokens\":5}",
];

/// The number of documents of each kind.
const DOCUMENTS: usize = 600;

/// A value of at most this depth.
fn value(random: &mut Rng, depth: u32) -> String {
    match random.u8(..8) {
        0..=2 if depth > 0 => object(random, depth - 1),
        3 if depth > 0 => {
            let items: Vec<_> = (0..random.usize(..3)).map(|_| value(random, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => random.choice(SAYINGS).unwrap_or("0").to_owned(),
    }
}

/// Keys may be repeated, and whitespace may be anywhere.
pub(in crate::fuzzing) fn object(random: &mut Rng, depth: u32) -> String {
    let members: Vec<_> = (0..random.usize(..5))
        .map(|_| {
            let space = random.choice(["", "", " ", "\t"]).unwrap_or("");
            format!("\"{}\"{space}:{space}{}", random.choice(KEYS).unwrap_or("x"), value(random, depth))
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Members of these names, some of them repeated.
fn members(random: &mut Rng, names: &[&str], value: impl Fn(&mut Rng) -> String) -> String {
    let members = (0..random.usize(..6)).map(|_| {
        let space = random.choice(["", "", "", " "]).unwrap_or("");
        let name = random.choice(names).unwrap_or(&"x");
        format!("{space}\"{name}\":{space}{}{space}", value(random))
    });
    members.collect::<Vec<_>>().join(",")
}

fn usage_object(random: &mut Rng) -> String {
    let number = |random: &mut Rng| random.choice(NUMBERS).unwrap_or("0").to_owned();
    let counts = members(random, &COUNTS, number);
    let objects = members(random, &OBJECTS, |random| format!("{{{}}}", members(random, &DETAILS, number)));
    let comma = if counts.is_empty() || objects.is_empty() { "" } else { "," };
    format!("{{{counts}{comma}{objects}}}")
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn usage_objects_of_any_members_are_read_as_by_the_oracle() {
    let mut random = Rng::with_seed(18);
    let mut with_usage = 0;
    for _ in 0..DOCUMENTS {
        let document = format!("{{\"usage\":{}}}", usage_object(&mut random));
        super::usage(document.as_bytes());
        with_usage += usize::from(super::meter_body(&[document.as_bytes()]).usage.is_some());
    }
    assert!(with_usage > DOCUMENTS / 2, "{with_usage} of {DOCUMENTS} documents have usage");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn decoys_of_usage_do_not_count_and_all_usage_does() {
    let mut random = Rng::with_seed(7);
    let mut with_usage = 0;
    for _ in 0..DOCUMENTS {
        let document = object(&mut random, 4);
        super::usage(document.as_bytes());
        let mut stream = String::new();
        for _ in 0..random.usize(1..4) {
            let name = random.choice(["", "", "event: message_start\n", "event: image_edit.completed\n"]);
            stream += &format!("{}data: {}\n\n", name.unwrap_or(""), object(&mut random, 4));
        }
        super::usage(stream.as_bytes());
        with_usage += usize::from(super::meter_stream(&[stream.as_bytes()]).tally.usage.is_some());
    }
    assert!(
        (DOCUMENTS / 50..DOCUMENTS / 2).contains(&with_usage),
        "{with_usage} of {DOCUMENTS} streams have usage"
    );
}
