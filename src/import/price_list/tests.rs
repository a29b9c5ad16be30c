use super::*;
use crate::llm::price::Rate;
use crate::llm::provider::Provider;
use crate::llm::usage::ToolKind;

const LIST: &str = r#"{
  "sample_spec": {"litellm_provider": "one of many", "input_cost_per_token": 0.0},
  "gpt-4.1-2025-04-14": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-06,
    "output_cost_per_token": 8e-06, "cache_read_input_token_cost": 5e-07,
    "input_cost_per_token_flex": 1e-06, "cache_read_input_token_cost_flex": 2.5e-07,
    "input_cost_per_token_batches": 1e-06, "output_cost_per_token_batches": 4e-06,
    "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_high": 0.01}},
  "claude-long": {"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 3e-06,
    "output_cost_per_token": 1.5e-05, "cache_creation_input_token_cost": 3.75e-06,
    "cache_creation_input_token_cost_above_1hr": 6e-06, "cache_read_input_token_cost": 3e-07,
    "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
    "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-05},
  "gemini/flash": {"litellm_provider": "gemini", "mode": "chat", "input_cost_per_token": "3e-07",
    "output_cost_per_token": 2.5e-06, "input_cost_per_audio_token": 1e-06,
    "output_cost_per_reasoning_token": 2.5e-06},
  "dashscope/ranged": {"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": [
    {"range": [256000, 1000000], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06},
    {"range": [0, 256000], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07}]},
  "xai/grok": {"litellm_provider": "xai", "mode": "chat", "input_cost_per_token": 3e-06,
    "output_cost_per_token": 1.5e-05, "input_cost_per_token_above_128k_tokens": 6e-06},
  "fireworks_ai/llama": {"litellm_provider": "fireworks_ai", "mode": "chat",
    "input_cost_per_token": 9e-07, "output_cost_per_token": 9e-07},
  "text-embedding-3-small": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08},
  "deepseek/chat": {"litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 3e-07,
    "output_cost_per_token": 1e-06, "off_peak_pricing": {"input_cost_per_token": 1e-07}},
  "perplexity/deep": {"litellm_provider": "perplexity", "mode": "chat", "input_cost_per_token": 2e-06,
    "output_cost_per_token": 8e-06, "output_cost_per_reasoning_token": 3e-06},
  "whisper-1": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001},
  "azure/gpt-4.1": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 2e-06},
  "ft:gpt-4o-mini-2024-07-18": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-07,
    "output_cost_per_token": 1.2e-06},
  "broken": {"litellm_provider": "openai", "input_cost_per_token": "much", "output_cost_per_token": 1}
}"#;

fn list() -> PriceList {
    PriceList::parse(LIST.as_bytes()).unwrap()
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

/// The steps as tier, threshold, input and output.
fn steps(key: &str) -> Vec<(Option<String>, Option<u64>, String, String)> {
    let steps = list().prices(key).unwrap().steps.into_iter();
    steps
        .map(|step| {
            let PriceStep { tier, above_input_tokens, rates } = step;
            (tier, above_input_tokens, rates.input.to_string(), rates.output.to_string())
        })
        .collect()
}

#[test]
fn other_json_is_no_price_list() {
    for text in ["[1]", "{}", "{\"a\": {\"b\": 1}}"] {
        assert_eq!(PriceList::parse(text.as_bytes()).unwrap_err(), NOT_A_LIST, "{text}");
    }
    assert!(PriceList::parse(b"model_list:").unwrap_err().starts_with("is not JSON"));
}

#[test]
fn tier_takes_missing_parts_from_the_standard_one() {
    let step = |tier: Option<&str>, input: &str, output: &str| {
        (tier.map(str::to_owned), None, input.to_owned(), output.to_owned())
    };
    let expected = [step(None, "2", "8"), step(Some("flex"), "1", "8"), step(Some("batch"), "1", "4")];
    assert_eq!(steps("gpt-4.1-2025-04-14"), expected);
    let listed = list().prices("gpt-4.1-2025-04-14").unwrap();
    let [standard, flex, batch] = &listed.steps[..] else { panic!("{listed:?}") };
    assert_eq!(standard.rates.tool_calls[ToolKind::WebSearch as usize], Some(rate("10")));
    assert_eq!((standard.rates.cached_input, flex.rates.cached_input), (rate("0.5"), rate("0.25")));
    assert_eq!(batch.rates.cached_input, rate("1"), "a batch takes nothing from the standard tier");
    assert_eq!(listed.notes, [""; 0]);
}

#[test]
fn long_input_has_a_step_with_the_parts_of_the_short_one() {
    let listed = list().prices("claude-long").unwrap();
    let [short, long] = &listed.steps[..] else { panic!("{listed:?}") };
    assert_eq!((short.above_input_tokens, long.above_input_tokens), (None, Some(200_000)));
    assert_eq!((short.rates.cache_write, long.rates.cache_write), (rate("3.75"), rate("3.75")));
    assert_eq!(short.rates.cache_write_1h, Some(rate("6")));
    assert_eq!(long.rates.cache_write_1h, Some(rate("12")));
    assert_eq!((long.rates.input, long.rates.output), (rate("6"), rate("22.5")));
}

#[test]
fn ranges_are_steps() {
    let step = |above, input: &str, output: &str| (None, above, input.to_owned(), output.to_owned());
    assert_eq!(steps("dashscope/ranged"), [step(None, "0.05", "0.4"), step(Some(256_000), "0.25", "2")]);
}

#[test]
fn provider_decides_a_threshold_and_a_cached_input() {
    assert_eq!(steps("xai/grok")[1].1, Some(127_999));
    let listed = list().prices("fireworks_ai/llama").unwrap();
    assert_eq!(listed.steps[0].rates.cached_input, rate("0.45"));
    assert_eq!(steps("text-embedding-3-small"), [(None, None, "0.02".to_owned(), "0".to_owned())]);
}

#[test]
fn part_beside_text_is_a_note() {
    assert_eq!(list().prices("gemini/flash").unwrap().notes, ["audio tokens have another price"]);
}

#[test]
fn price_that_rates_cannot_express_is_refused() {
    for (key, reason) in [
        ("deepseek/chat", "costs less at some hours"),
        ("perplexity/deep", "has another price for reasoning than for other output"),
        ("whisper-1", "is priced per second, not per token"),
        ("azure/gpt-4.1", "has no price of output tokens"),
        ("broken", "has a input_cost_per_token that is not a number"),
        ("missing", "is not in the list"),
    ] {
        assert_eq!(list().prices(key).unwrap_err(), reason, "{key}");
    }
}

#[test]
fn key_has_the_prefix_and_the_provider_of_the_source() {
    let list = list();
    let key = |provider, host: &str, model| list.key(&PriceSource::of(provider, host).unwrap(), model);
    assert_eq!(key(Provider::OpenAi, "", "gpt-4.1-2025-04-14"), Some("gpt-4.1-2025-04-14"));
    assert_eq!(key(Provider::Azure, "", "gpt-4.1"), Some("azure/gpt-4.1"));
    assert_eq!(key(Provider::OpenAi, "", "claude-long"), None);
    assert_eq!(key(Provider::Anthropic, "", "claude-long"), Some("claude-long"));
    assert_eq!(key(Provider::Other, "api.x.ai", "grok"), Some("xai/grok"));
    let tuned = "ft:gpt-4o-mini-2024-07-18:acme::B1";
    assert_eq!(key(Provider::OpenAi, "", tuned), Some("ft:gpt-4o-mini-2024-07-18"));
    assert_eq!(list.model(&PriceSource::named("azure"), "azure/gpt-4.1"), Some("gpt-4.1"));
    assert_eq!(list.model(&PriceSource::named("openai"), "azure/gpt-4.1"), None);
    assert_eq!(list.bare_model("azure/gpt-4.1"), "gpt-4.1");
    assert_eq!(list.bare_model("claude-long"), "claude-long");
    assert_eq!(list.matching("*gpt-4.1*").collect::<Vec<_>>(), ["azure/gpt-4.1", "gpt-4.1-2025-04-14"]);
}

#[test]
fn date_at_the_end_of_a_model_is_removed() {
    assert_eq!(without_date("gpt-4.1-2025-04-14"), Some("gpt-4.1"));
    assert_eq!(without_date("claude-sonnet-4-20250514"), Some("claude-sonnet-4"));
    for model in ["gpt-4.1", "-2025-04-14", "20250514", "a-2025-0x-14", "é-2025-04-1"] {
        assert_eq!(without_date(model), None, "{model}");
    }
}
