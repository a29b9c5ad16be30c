use super::*;

/// The result without its header, and the verdicts other than taken as `path: verdict`.
fn converted(text: &str) -> (String, Vec<String>) {
    let Imported { toml, findings } = import(text, false).unwrap();
    let left = findings.iter().filter(|finding| finding.verdict != Treatment::Taken);
    let left = left.map(|finding| format!("{}: {}", finding.path, finding.verdict.as_str())).collect();
    (toml.split_once("4000\"\n").map_or(toml.clone(), |(_, rest)| rest.to_owned()), left)
}

#[test]
fn deployment_becomes_an_upstream_with_a_route() {
    let (toml, left) = converted(
        "model_list:\n- model_name: fast\n  litellm_params:\n    model: openai/gpt-4.1-mini\n    api_key: os.environ/OPENAI_API_KEY\n",
    );
    assert_eq!(
        toml,
        "\n# model_list[0] (line 2)\n[upstreams.openai]\napi_key = { env = \"OPENAI_API_KEY\" }\n\
         models = { \"fast\" = \"gpt-4.1-mini\" }\n\n[[routes]]\nmodel = \"fast\"\nupstream = \"openai\"\n"
    );
    assert_eq!(left, [""; 0]);
}

#[test]
fn deployments_of_a_name_become_a_group() {
    let (toml, left) = converted(
        "model_list:\n\
         - {model_name: chat, litellm_params: {model: azure/d1, api_base: 'https://a', api_version: 2024-10-21, api_key: os.environ/A, weight: 9}}\n\
         - {model_name: chat, litellm_params: {model: openai/gpt-4o, api_key: os.environ/O, order: 2, rpm: 60}}\n\
         - {model_name: small, litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/O}}\n\
         router_settings: {num_retries: 9, fallbacks: [{chat: [small]}], model_group_alias: {gpt-4: chat}}\n",
    );
    assert!(
        toml.contains(
            "[groups.chat]\ntiers = [\n  [{ upstream = \"openai\", model = \"gpt-4o\" }],\n  \
             [{ upstream = \"azure\", weight = 9, model = \"d1\" }],\n  [{ upstream = \"openai\", model = \"gpt-4o-mini\" }],\n]\n\
             balance = \"weight\"\nsticky = []\nretry.attempts = 3\n"
        ),
        "{toml}"
    );
    assert!(toml.contains("[[routes]]\nmodel = \"gpt-4\"\nupstream = \"chat\"\n"), "{toml}");
    assert_eq!(
        left,
        [
            "model_list[1].litellm_params.rpm: near",
            "router_settings.num_retries: near",
            "router_settings.fallbacks: near"
        ]
    );
    let whole = import("model_list: []\nmodel_list2: 1\n", false).unwrap();
    assert_eq!(whole.findings.len(), 1);
}

#[test]
fn secret_in_the_file_is_copied_only_on_request() {
    let text = "model_list:\n- {model_name: a, litellm_params: {model: openai/a, api_key: sk-marker}}\n\
                - {model_name: b, litellm_params: {model: groq/b, api_key: sk-marker}}\n\
                general_settings: {master_key: sk-master-marker}\n";
    let imported = import(text, false).unwrap();
    assert!(!format!("{imported:?}").contains("marker"), "{imported:?}");
    assert!(imported.toml.contains("key = { env = \"LITELLM_MASTER_KEY\" }"), "{}", imported.toml);
    assert_eq!(imported.findings.iter().filter(|finding| finding.verdict == Treatment::ByHand).count(), 3);
    let imported = import(text, true).unwrap();
    assert!(imported.toml.contains("api_key = { value = \"sk-marker\" }"), "{}", imported.toml);
    assert!(imported.findings.iter().all(|finding| finding.verdict == Treatment::Taken));
    assert!(!format!("{:?}", imported.findings).contains("marker"));
}

#[test]
fn key_without_a_counterpart_is_named_with_the_reason() {
    let (_, left) = converted(
        "model_list:\n- {model_name: a, litellm_params: {model: bedrock/anthropic.claude-v2, aws_region_name: us-east-1}}\n\
         - {model_name: b, litellm_params: {model: openai/b, temperature: 0.2, unknown: 1}, model_info: {mode: chat}}\n\
         litellm_settings: {drop_params: true, cache: false, callbacks: [langfuse], set_verbose: true}\nguardrails: [x]\n",
    );
    assert_eq!(
        left,
        [
            "model_list[0].litellm_params.model: not here",
            "model_list[0].model_name: not here",
            "model_list[0].litellm_params.aws_region_name: not here",
            "model_list[1].litellm_params.temperature: not here",
            "model_list[1].litellm_params.unknown: not here",
            "model_list[1].model_info.mode: near",
            "litellm_settings.drop_params: not here",
            "litellm_settings.callbacks: not here",
            "litellm_settings.set_verbose: near",
            "guardrails: not here",
        ]
    );
}

#[test]
fn pattern_keeps_the_names_of_models() {
    let (toml, left) = converted(
        "model_list:\n- {model_name: '*', litellm_params: {model: openai/*}}\n- {model_name: gpt-*, litellm_params: {model: openai/gpt-*}}\n\
         - {model_name: groq/*, litellm_params: {model: groq/*}}\n",
    );
    assert!(
        toml.contains(
            "[[routes]]\nmodel = \"gpt-*\"\nupstream = \"openai\"\n\n[[routes]]\nupstream = \"openai\"\n"
        ),
        "{toml}"
    );
    assert_eq!(left, ["model_list[2] (line 4) model_name: by hand"]);
    assert!(!toml.contains("groq"), "an upstream without requests is left out: {toml}");
}

#[test]
fn azure_resource_may_have_any_name() {
    for (base, resource, version) in [
        ("https://openai-1.openai.azure.com/", "https://openai-1.openai.azure.com", "api_version"),
        ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com", "models"),
    ] {
        let text = format!(
            "model_list:\n- {{model_name: a, litellm_params: {{model: azure/d, api_base: '{base}', api_key: os.environ/K}}}}\n"
        );
        let (toml, _) = converted(&text);
        assert!(toml.contains(&format!("url = \"{resource}\"\n")) && toml.contains(version), "{toml}");
    }
}

#[test]
fn nothing_is_written_without_an_upstream() {
    let text = "model_list:\n- {model_name: a, litellm_params: {model: bedrock/claude}}\n";
    assert_eq!(import(text, false).unwrap().toml, "");
}

#[test]
fn text_of_another_kind_is_refused() {
    for text in ["", "a: 1", "model_list: {}", "- 1", "model_list: [", "[server]\nlisten = 1\n"] {
        assert!(import(text, false).is_err(), "{text}");
    }
}

#[test]
fn result_is_valid_for_odd_names() {
    let text = "model_list:\n- {model_name: \"a \\\"b\\\"\\nc\", litellm_params: {model: \"openai/x\\ny\", api_key: os.environ/K}}\n\
                - {model_name: openai, litellm_params: {model: openai/o, api_key: os.environ/K}}\n\
                - {model_name: openai, litellm_params: {model: openai/p, api_key: os.environ/L}}\n";
    let Imported { toml, .. } = import(text, false).unwrap();
    let parsed: toml_edit::DocumentMut = toml.parse().unwrap();
    assert!(parsed["groups"].as_table().unwrap().contains_key("openai-3"), "{toml}");
}
