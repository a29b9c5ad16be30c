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
