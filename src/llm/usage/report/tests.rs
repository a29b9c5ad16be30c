use super::*;

fn read(object: &str) -> Usage {
    counts(object).unwrap_or_else(|| panic!("{object} has a count"))
}

fn counts(object: &str) -> Option<Usage> {
    Report::read(object.as_bytes()).and_then(|report| report.counts)
}

#[test]
fn report_is_none_for_null_empty_and_countless_objects() {
    for none in ["null", "{}", "[]", "12", r#"{"cost":0.1,"is_byok":false}"#, r#"{"prompt_tokens":null}"#] {
        assert_eq!(counts(none), None, "{none}");
    }
}

#[test]
fn report_counts_zero() {
    assert_eq!(read(r#"{"prompt_tokens":0}"#).input_tokens, Some(0));
}

#[test]
fn report_reads_names_of_chat_and_responses() {
    let chat = read(r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":9}"#);
    let responses = read(r#"{"input_tokens":1,"output_tokens":2,"total_tokens":9}"#);
    assert_eq!(chat, responses);
    assert_eq!((chat.input_tokens, chat.output_tokens, chat.total_tokens), (Some(1), Some(2), Some(9)));
}

#[test]
fn report_never_computes_a_total() {
    assert_eq!(read(r#"{"input_tokens":1,"output_tokens":2}"#).total_tokens, None);
}

#[test]
fn report_reads_details_under_all_names() {
    for side in ["prompt", "input"] {
        for details in ["tokens_details", "token_details"] {
            let usage = read(&format!(
                r#"{{"{side}_{details}":{{"cached_tokens":1,"audio_tokens":2,"cache_write_tokens":3}}}}"#
            ));
            assert_eq!(usage.cached_input_tokens, Some(1));
            assert_eq!(usage.input_audio_tokens, Some(2));
            assert_eq!(usage.cache_write_input_tokens, Some(3));
        }
    }
    for side in ["completion", "output"] {
        let usage =
            read(&format!(r#"{{"{side}_tokens_details":{{"reasoning_tokens":1,"audio_tokens":2}}}}"#));
        assert_eq!((usage.reasoning_tokens, usage.output_audio_tokens), (Some(1), Some(2)));
    }
}

#[test]
fn report_prefers_cached_token_names_in_order() {
    let names = ["cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"];
    let mut object = String::from("\"prompt_tokens_details\":{\"cached_tokens\":0}");
    for (i, name) in names.iter().enumerate() {
        object.push_str(&format!(",\"{name}\":{}", i + 1));
    }
    for expected in 0..=names.len() {
        assert_eq!(read(&format!("{{{object}}}")).cached_input_tokens, Some(expected as u64));
        object = object.split_once(',').map_or(String::new(), |(_, rest)| rest.to_owned());
    }
}

#[test]
fn report_reads_cache_writes_under_all_names() {
    for object in [
        r#"{"cache_creation_input_tokens":4}"#,
        r#"{"prompt_tokens_details":{"cache_write_tokens":4,"cache_creation_tokens":5}}"#,
        r#"{"prompt_tokens_details":{"cache_creation_tokens":4}}"#,
    ] {
        assert_eq!(read(object).cache_write_input_tokens, Some(4), "{object}");
    }
}

#[test]
fn report_reads_reasoning_beside_the_details() {
    assert_eq!(read(r#"{"reasoning_tokens":4,"completion_tokens_details":null}"#).reasoning_tokens, Some(4));
}

#[test]
fn report_accepts_parts_larger_than_the_whole() {
    let usage = read(r#"{"prompt_tokens":235,"prompt_tokens_details":{"cached_tokens":373}}"#);
    assert_eq!((usage.input_tokens, usage.cached_input_tokens), (Some(235), Some(373)));
}

#[test]
fn report_reads_seconds_only_of_usage_by_duration() {
    assert_eq!(read(r#"{"type":"duration","seconds":4.5}"#).billed_seconds, Some(4.5));
    assert_eq!(counts(r#"{"type":"tokens","seconds":4.5}"#), None);
    assert_eq!(read(r#"{"prompt_audio_seconds":3}"#).billed_seconds, Some(3.0));
    assert_eq!(counts(r#"{"prompt_audio_seconds":{}}"#), None);
}

#[test]
fn count_accepts_integers_whole_floats_and_digit_strings() {
    for (text, expected) in [
        ("7", Some(7)),
        ("7.0", Some(7)),
        ("70e-1", Some(7)),
        ("\"7\"", Some(7)),
        ("-0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("1e999", None),
        ("7.5", None),
        ("-7", None),
        ("\"7.0\"", None),
        ("\" 7\"", None),
        ("\"\"", None),
        ("true", None),
        ("[7]", None),
    ] {
        assert_eq!(count(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn report_last_of_equal_keys_counts_even_if_null() {
    assert_eq!(read(r#"{"prompt_tokens":1,"prompt_tokens":2}"#).input_tokens, Some(2));
    assert_eq!(read(r#"{"prompt_tokens":1,"prompt_tokens":null,"input_tokens":3}"#).input_tokens, Some(3));
}

#[test]
fn updated_usage_keeps_counts_that_are_not_repeated() {
    let first = read(r#"{"input_tokens":34824,"output_tokens":5,"cache_read_input_tokens":0}"#);
    let last = read(r#"{"input_tokens":3883,"output_tokens":2}"#);
    let expected = read(r#"{"input_tokens":3883,"output_tokens":2,"cache_read_input_tokens":0}"#);
    assert_eq!(first.updated(last), expected);
}

#[test]
fn report_reads_thinking_tokens_as_reasoning() {
    let usage = read(r#"{"output_tokens":31,"output_tokens_details":{"thinking_tokens":24}}"#);
    assert_eq!(usage.reasoning_tokens, Some(24));
}

#[test]
fn report_reads_one_hour_cache_writes() {
    let usage = read(
        r#"{"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}"#,
    );
    assert_eq!((usage.cache_write_input_tokens, usage.cache_write_1h_input_tokens), (Some(9), Some(5)));
    let litellm =
        r#"{"prompt_tokens_details":{"cache_creation_token_details":{"ephemeral_1h_input_tokens":5}}}"#;
    assert_eq!(read(litellm).cache_write_1h_input_tokens, Some(5));
    assert_eq!(read(r#"{"input_tokens":1,"cache_creation":null}"#).cache_write_1h_input_tokens, None);
}

fn calls_of(object: &str) -> String {
    Report::read(object.as_bytes()).unwrap_or_default().calls.to_string()
}

#[test]
fn report_reads_calls_that_the_service_counts() {
    for (object, calls) in [
        (
            r#"{"server_tool_use":{"web_search_requests":5,"web_fetch_requests":1}}"#,
            r#"{"web_fetch":1,"web_search":5}"#,
        ),
        (
            r#"{"server_tool_use_details":{"web_search_requests":2},"server_tool_use":{"web_search_requests":2}}"#,
            r#"{"web_search":2}"#,
        ),
        (
            r#"{"num_sources_used":3,"server_side_tool_usage_details":{"web_search_calls":2,"mcp_calls":4,"x_search_calls":1}}"#,
            r#"{"sources":3,"web_search":2,"x_search":1}"#,
        ),
        (r#"{"num_search_queries":7}"#, r#"{"web_search":7}"#),
        (r#"{"connectors":{"web_search":1}}"#, r#"{"web_search":1}"#),
        (r#"{"server_tool_use":{"web_search_requests":0}}"#, "{}"),
        (r#"{"server_tool_use":null,"num_sources_used":"x"}"#, "{}"),
    ] {
        assert_eq!(calls_of(object), calls, "{object}");
    }
}

#[test]
fn report_reads_cost_as_number_object_or_ticks() {
    for (object, cost) in [
        (r#"{"cost":0.0002444}"#, Some("0.0002444")),
        (r#"{"cost":"0.5"}"#, Some("0.5")),
        (
            r#"{"cost":{"input_tokens_cost":1e-05,"request_cost":0.005,"total_cost":0.00522}}"#,
            Some("0.00522"),
        ),
        (r#"{"cost":{"total_cost":2.8e-08,"currency":"USD"}}"#, Some("2.8e-08")),
        (r#"{"cost":{"total_cost":1,"currency":"EUR"}}"#, None),
        (r#"{"cost_in_usd_ticks":3530500}"#, Some("0.00035305")),
        (r#"{"cost":null,"cost_in_usd_ticks":0}"#, Some("0")),
        (r#"{"market_cost":1,"cost_details":{"total_cost":1},"cost":true}"#, None),
    ] {
        let report = Report::read(object.as_bytes()).unwrap_or_default();
        assert_eq!(report.cost.as_deref(), cost, "{object}");
    }
}

#[test]
fn report_reads_the_service_tier() {
    let tier = |object: &str| Report::read(object.as_bytes()).and_then(|report| report.tier);
    assert_eq!(tier(r#"{"service_tier":"priority"}"#).as_deref(), Some("priority"));
    assert_eq!(tier(r#"{"service_tier":"gold"}"#).as_deref(), Some("gold"));
    assert_eq!(tier(r#"{"service_tier":""}"#), None);
    assert_eq!(tier(r#"{"service_tier":null}"#), None);
}

#[test]
fn report_names_counts_in_forms_it_does_not_know() {
    for (object, name) in [
        (r#"{"input_tokens":{"text":4,"image":6},"output_tokens":5}"#, Some("input_tokens")),
        (r#"{"prompt_tokens":-1,"completion_tokens":5}"#, Some("prompt_tokens")),
        (r#"{"prompt_tokens":10,"completion_tokens":5.5}"#, Some("completion_tokens")),
        (r#"{"prompt_tokens":10,"completion_tokens":"five"}"#, Some("completion_tokens")),
        (r#"{"input":{"tokens":4},"output_tokens":3}"#, Some("input")),
        (r#"{"tokens_used":{"in":4,"out":5},"cached_tokens":3}"#, Some("tokens_used")),
        (r#"{"token_counts":{"input_tokens":4},"cached_tokens":3}"#, Some("input_tokens")),
        (r#"{"type":"duration","seconds":{"value":3}}"#, Some("seconds")),
        (r#"{"type":"duration","seconds":-3}"#, Some("seconds")),
        (r#"{"prompt_tokens":null,"completion_tokens":5}"#, None),
        (r#"{"prompt_tokens":-1,"input_tokens":10,"completion_tokens":5}"#, None),
        (r#"{"input_tokens":10,"output_tokens":{},"total_tokens":10}"#, None),
        (r#"{"input_tokens":10,"cache":{"hits":3},"input":{"tokens":3}}"#, None),
        (r#"{"output_tokens":3,"input":{"limit_per_minute":4,"image_tokens":2}}"#, None),
        (r#"{"prompt_tokens":10,"completion_price":{"usd":4}}"#, None),
        (r#"{"type":"tokens","seconds":4.5}"#, None),
    ] {
        let unread = Report::read(object.as_bytes()).and_then(|report| report.unread);
        assert_eq!(unread.as_deref(), name, "{object}");
    }
}

#[test]
fn report_reads_seconds_in_a_string_of_digits() {
    assert_eq!(read(r#"{"type":"duration","seconds":"3"}"#).billed_seconds, Some(3.0));
    assert_eq!(read(r#"{"seconds":"2.5"}"#).billed_seconds, Some(2.5));
    assert_eq!(counts(r#"{"type":"duration","seconds":"inf"}"#), None);
}
