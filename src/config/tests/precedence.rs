//! Precedence: the command line over the environment, the file, and the defaults.

use super::*;
use crate::gate::KeyDigest;
use crate::support::telemetry::LogFormat;

fn listen(text: Option<&str>, variables: &[(&str, &str)], listen: Option<&str>) -> String {
    let variables: Vec<_> =
        [("OPENAI_API_KEY", "sk-1")].into_iter().chain(variables.iter().copied()).collect();
    let loaded = load_text(text, &variables, listen).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    loaded.settings.server.listen.to_string()
}

#[test]
fn last_layer_wins() {
    let file = format!("[server]\nlisten = \"127.0.0.1:1\"\n{OPENAI}");
    let variable = [("STREAMGAUGE_SERVER__LISTEN", "127.0.0.1:2")];
    assert_eq!(listen(None, &[], None), "127.0.0.1:8080");
    assert_eq!(listen(Some(&file), &[], None), "127.0.0.1:1");
    assert_eq!(listen(None, &variable, None), "127.0.0.1:2");
    assert_eq!(listen(Some(&file), &variable, None), "127.0.0.1:2");
    assert_eq!(listen(Some(&file), &variable, Some("127.0.0.1:3")), "127.0.0.1:3");
}

#[test]
fn variable_is_converted_to_the_type_of_its_key() {
    let variables = [
        ("STREAMGAUGE_SERVER__WORKERS", "3"),
        ("STREAMGAUGE_SERVER__ALLOW_ANONYMOUS", "true"),
        ("STREAMGAUGE_SERVER__MAX_REQUEST_BYTES", "1000"),
        ("STREAMGAUGE_SERVER__MAX_BUFFERED_BYTES", "2MiB"),
        ("STREAMGAUGE_SERVER__DRAIN_TIMEOUT", "1m"),
        ("STREAMGAUGE_ADMIN__LISTEN", ""),
        ("STREAMGAUGE_LEDGER__JSONL", "-"),
        ("STREAMGAUGE_LOG__FORMAT", "json"),
        ("STREAMGAUGE_CLIENTS__A__KEY__VALUE", "01234567890"),
        ("STREAMGAUGE_UPSTREAMS__X__PROVIDER", "other"),
        ("STREAMGAUGE_UPSTREAMS__X__URL", "http://127.0.0.1:8000/v1"),
        ("STREAMGAUGE_UPSTREAMS__X__API_KEY__ENV", "DIGITS"),
        ("STREAMGAUGE_UPSTREAMS__X__DEFAULT_MODEL", "7"),
        ("DIGITS", "1234567890123456789012345678901234567890"),
    ];
    let settings = load_text(None, &variables, None).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
    let Settings { server, admin, ledger, log, clients, upstreams, .. } = settings;
    assert_eq!((server.workers, server.max_request_bytes, server.max_buffered_bytes), (3, 1000, 2 << 20));
    assert_eq!(server.drain_timeout.as_secs(), 60);
    assert_eq!((admin.listen, ledger.jsonl, log.format), (None, Some(JsonlTarget::Stdout), LogFormat::Json));
    assert_eq!(clients[0].keys[0].digest, KeyDigest::of(b"01234567890"), "a secret of digits is text");
    let key = upstreams[0].api_key.as_ref().unwrap();
    assert_eq!(key.expose(), "1234567890123456789012345678901234567890", "a secret of digits is text");
    assert_eq!(upstreams[0].default_model.as_deref(), Some("7"));
}

#[test]
fn mistake_in_a_variable_names_the_variable() {
    for (variable, value, reason) in [
        ("STREAMGAUGE_SERVER__LISTEN", "here", "not an address and a port"),
        ("STREAMGAUGE_SERVER__WORKERS", "many", "must be a whole number"),
        ("STREAMGAUGE_SERVER__ALLOW_ANONYMOUS", "yes", "must be true or false"),
        ("STREAMGAUGE_SERVER__LISTN", "127.0.0.1:1", "did you mean `listen`?"),
        (
            "STREAMGAUGE_UPSTREAMS__OPENAI__API_KEY",
            "sk-marker",
            "STREAMGAUGE_UPSTREAMS__OPENAI__API_KEY__ENV",
        ),
        ("STREAMGAUGE_UPSTREAMS__OPENAI__API_KEY__ENV", "GONE", "GONE is not set"),
        ("STREAMGAUGE_ROUTES__0__PATH", "/x", "can only be written in a file"),
        ("STREAMGAUGE_ADMIN__LISTEN", "127.0.0.1:8080", "both server.listen and admin.listen"),
    ] {
        let found = lines(load_text(Some(OPENAI), &[(variable, value)], None).expect_err(variable));
        // A mistake in a part of an array is reported for the array.
        let place = if variable.contains("ROUTES") { "STREAMGAUGE_ROUTES" } else { variable };
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("environment {place}: ")) && found[0].contains(reason),
            "{found:?}"
        );
        assert!(!found[0].contains("marker"), "{found:?}");
    }
}

#[test]
fn variable_replaces_another_form_of_a_secret() {
    let text = "[upstreams.openai]\napi_key = { file = \"gone\" }";
    let variables = [("STREAMGAUGE_UPSTREAMS__OPENAI__API_KEY__VALUE", "sk-2")];
    let loaded = load_text(Some(text), &variables, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.settings.upstreams[0].api_key.as_ref().unwrap().expose(), "sk-2");
}

#[test]
fn missing_key_has_the_place_of_its_table() {
    let text = "[upstreams.azure]\napi_key = { value = \"k\" }";
    let variables = [("STREAMGAUGE_UPSTREAMS__AZURE__API_VERSION", "v1")];
    let found = lines(load_text(Some(text), &variables, None).expect_err(text));
    assert!(found.len() == 1 && found[0].starts_with("streamgauge.toml: upstreams.azure.url: "), "{found:?}");
    let found = lines(load_text(None, &variables, None).expect_err(text));
    assert!(found[0].starts_with("environment STREAMGAUGE_UPSTREAMS__AZURE__"), "{found:?}");
}

#[test]
fn openai_api_key_suffices_without_a_file() {
    let key = ("OPENAI_API_KEY", "sk-1");
    let loaded = load_text(None, &[key], None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [upstream] = loaded.settings.upstreams.as_slice() else { panic!("one upstream") };
    assert_eq!(
        (upstream.name.as_str(), upstream.url.to_string().as_str()),
        ("openai", "https://api.openai.com/v1")
    );
    assert_eq!(upstream.api_key.as_ref().unwrap().expose(), "sk-1");
    assert_eq!(loaded.origin, None);

    let model = ("STREAMGAUGE_UPSTREAMS__OPENAI__DEFAULT_MODEL", "gpt-4.1");
    let loaded = load_text(None, &[key, model], None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.settings.upstreams[0].default_model.as_deref(), Some("gpt-4.1"));

    let elsewhere = [
        key,
        ("STREAMGAUGE_UPSTREAMS__X__PROVIDER", "other"),
        ("STREAMGAUGE_UPSTREAMS__X__URL", "http://127.0.0.1:8000/v1"),
        ("STREAMGAUGE_UPSTREAMS__X__API_KEY", "none"),
        ("STREAMGAUGE_UPSTREAMS__X__DEFAULT_MODEL", "m"),
    ];
    let loaded = load_text(None, &elsewhere, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.settings.upstreams.len(), 1, "the environment names another upstream");
}

#[test]
fn missing_file_and_key_are_named_with_both_remedies() {
    for variables in [&[][..], &[("OPENAI_API_KEY", "")]] {
        let found = lines(load_text(None, variables, None).expect_err("nothing"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("configuration: upstreams: "), "{found:?}");
        assert!(
            found[0].contains("set OPENAI_API_KEY") && found[0].contains("streamgauge.toml"),
            "{found:?}"
        );
    }
    let found = lines(load_text(Some(""), &[("OPENAI_API_KEY", "sk-1")], None).expect_err("an empty file"));
    assert!(found.len() == 1 && found[0].contains("[upstreams.openai]"), "{found:?}");
}

#[test]
fn unfit_openai_api_key_names_its_variable() {
    let found = lines(load_text(None, &[("OPENAI_API_KEY", "sk-marker\n")], None).expect_err("a line break"));
    assert!(found.len() == 1 && found[0].starts_with("environment OPENAI_API_KEY: "), "{found:?}");
    assert!(!found[0].contains("marker"), "{found:?}");
}
