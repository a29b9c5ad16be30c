//! Secrets come from variables, files or the text itself, and never appear in output.

use std::fs;

use super::*;

fn key(upstream: &Upstream) -> &str {
    upstream.api_key.as_ref().unwrap().expose()
}

#[test]
fn secret_comes_from_a_variable_a_file_or_its_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(folder.path().join("secrets/key"), "sk-file\r\n").unwrap();
    let absolute = folder.path().join("absolute");
    fs::write(&absolute, "sk-absolute").unwrap();
    let path = folder.path().join("streamgauge.toml");
    for (form, secret) in [
        ("{ env = \"KEY\" }".to_owned(), "sk-env"),
        ("{ file = \"secrets/key\" }".to_owned(), "sk-file"),
        (format!("{{ file = {absolute:?} }}"), "sk-absolute"),
        ("{ value = \"sk value\" }".to_owned(), "sk value"),
    ] {
        fs::write(&path, format!("[upstreams.openai]\napi_key = {form}")).unwrap();
        let sources =
            Sources { file: Some(path.clone()), env: env(&[("KEY", "sk-env")]), ..Sources::default() };
        let loaded = load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(key(&loaded.settings.upstreams[0]), secret, "{form}");
        assert_eq!(loaded.origin.as_ref(), Some(&path));
    }
}

#[test]
fn missing_or_unfit_secret_is_a_mistake_without_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        fs::write(folder.path().join(name), content).unwrap();
        format!("{{ file = {:?} }}", folder.path().join(name))
    };
    let path = |key: &str| format!("streamgauge.toml: upstreams.openai.api_key{key}: ");
    for (form, key, reason) in [
        ("{ env = \"GONE\" }".to_owned(), ".env", "the environment variable GONE is not set, or empty"),
        ("{ env = \"EMPTY\" }".to_owned(), ".env", "the environment variable EMPTY is not set, or empty"),
        ("{ env = \"\" }".to_owned(), ".env", "names no environment variable"),
        ("{ env = \"sk-marker\" }".to_owned(), ".env", "write the name of one, not the secret itself"),
        ("{ env = 1 }".to_owned(), ".env", "must be text"),
        ("{ file = \"gone\" }".to_owned(), ".file", "there is no file gone"),
        ("{ file = \"\" }".to_owned(), ".file", "names no file"),
        (format!("{{ file = {:?} }}", folder.path()), ".file", "cannot read"),
        (file("empty", b"\n"), ".file", "is empty"),
        (file("latin1", b"\xe9"), ".file", "is not text"),
        (file("lines", b"sk-marker\nsk-marker\n"), "", "the secret has a line break inside"),
        (file("unix", b"sk-marker\n\n"), "", "the secret ends with a line break"),
        (file("dos", b"sk-marker\r\n\r\n"), "", "the secret ends with a line break"),
        ("{ env = \"ENDED\" }".to_owned(), "", "the secret ends with a line break"),
        ("{ value = \"\" }".to_owned(), ".value", "is empty"),
        ("{ value = \"sk-marker \" }".to_owned(), "", "begins or ends with a space"),
        ("{ value = \"sk-marker\\u0000\" }".to_owned(), "", "a header cannot carry"),
        ("{ value = \"sk-marker\u{e9}\" }".to_owned(), "", "a header cannot carry"),
        ("{ env = \"MARKED\" }".to_owned(), "", "a header cannot carry"),
        (
            "{ env = \"MARKED\", value = \"sk-marker\" }".to_owned(),
            "",
            "has env and value at once: keep one of them",
        ),
        ("{}".to_owned(), "", "does not say where the secret is: write { env = \"NAME\" }"),
        (
            "\"sk-marker\"".to_owned(),
            "",
            "is a table that says where it is: write { env = \"NAME\" } or { file = \"PATH\" }",
        ),
        ("12345".to_owned(), "", "is a table that says where it is"),
    ] {
        let text = format!("[upstreams.openai]\napi_key = {form}");
        let variables = [("EMPTY", ""), ("MARKED", "sk-marker\u{fffd}"), ("ENDED", "sk-marker\n")];
        let found = lines(load_text(Some(&text), &variables, None).expect_err(&form));
        assert_eq!(found.len(), 1, "{form}: {found:?}");
        assert!(found[0].starts_with(&path(key)) && found[0].contains(reason), "{form}: {found:?}");
        assert!(!found[0].contains("marker") && !found[0].contains("12345"), "{form}: {found:?}");
    }
}

#[test]
fn unknown_key_in_a_secret_is_named() {
    let text = "[upstreams.openai]\napi_key = { evn = \"KEY\" }";
    let found = mistakes(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("does not say where"), "{found:?}");
    assert!(found[1].starts_with("configuration: upstreams.openai.api_key.evn: unknown key"), "{found:?}");
}

#[test]
fn key_none_is_for_other_services_only() {
    let text =
        "[upstreams.x]\nprovider = \"other\"\nurl = \"http://a\"\ndefault_model = \"m\"\napi_key = \"none\"";
    assert_eq!(settings(text).upstreams[0].api_key, None);
    let found = mistakes(&text.replace("\"none\"", "\"None\""));
    assert!(found.len() == 1 && found[0].contains("is a table that says where it is"), "{found:?}");
}

#[test]
fn debug_shows_no_secret() {
    const MARKER: &str = "sk-marker";
    let text = r#"
        [clients.a]
        key = { value = "sk-marker-1" }
        [upstreams.openai]
        api_key = { env = "KEY" }
        [upstreams.openai.headers]
        X-Key = { value = "sk-marker-2" }
        Authorization = "Bearer sk-marker-3"
        X-Team = "plain"
    "#;
    let loaded = load_text(Some(text), &[("KEY", "sk-marker-4")], None)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let sources = Sources { env: env(&[("KEY", "sk-marker-4")]), ..Sources::default() };
    let shown = format!("{loaded:?} {loaded:#?} {sources:?} {sources:#?}");
    assert!(!shown.contains(MARKER), "{shown}");
    assert!(
        shown.contains("***") && shown.contains("plain") && shown.contains("KEY"),
        "the rest is shown: {shown}"
    );
    assert_eq!(key(&loaded.settings.upstreams[0]), "sk-marker-4", "and the secret is there");
}

#[test]
fn secret_header_is_marked_sensitive() {
    let text = format!(
        "{OPENAI}[upstreams.openai.headers]\nX-Key = {{ value = \"k\" }}\nX-Team = \"t\"\nCookie = \"c\""
    );
    let headers = &settings(&text).upstreams[0].headers;
    let marked: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.is_sensitive())).collect();
    assert_eq!(marked, [("x-key", true), ("x-team", false), ("cookie", true)]);
}

#[test]
fn effective_shows_where_secrets_are_and_none_of_them() {
    let text = "[server]\nworkers = 3\n[admin]\ntoken = { value = \"sk-marker-0123456789\" }\n\
         [network.proxy]\nurl = \"http://proxy:3128\"\nusername = \"ada\"\npassword = { value = \"sk-marker\" }\n\
         headers = { \"X-A\" = \"sk-marker\", \"X-B\" = { value = \"sk-marker\" } }\n\
         [clients.a]\nkey = { value = \"sk-marker\" }\n[clients.b]\nkey = { env = \"KEY\" }\n\
         [upstreams.openai]\napi_key = { value = \"sk-marker\" }\nmodels = { fast = \"gpt\" }\n\
         headers = { \"X-C\" = \"sk-marker\", \"X-D\" = { env = \"KEY\" }, \"X-E\" = { value = \"sk-marker\" } }\n";
    let variables = [
        ("KEY", "sk-marker-of-the-environment"),
        ("STREAMGAUGE_CLIENTS__C__KEY__VALUE", "sk-marker-three"),
        ("STREAMGAUGE_SERVER__LISTEN", "127.0.0.1:7"),
    ];
    let loaded = load_text(Some(text), &variables, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let shown = loaded.settings.effective;
    assert!(!shown.to_string().contains("marker"), "{shown:#}");
    for (pointer, value) in [
        ("/server/workers", serde_json::json!(3)),
        ("/server/listen", "127.0.0.1:7".into()),
        ("/server/drain_timeout", "30s".into()),
        ("/admin/token/value", "***".into()),
        ("/clients/b/key/env", "KEY".into()),
        ("/clients/c/key/value", "***".into()),
        ("/upstreams/openai/headers/X-C", "***".into()),
        ("/upstreams/openai/headers/X-D/env", "KEY".into()),
        ("/upstreams/openai/models/fast", "gpt".into()),
        ("/network/proxy/url", "http://proxy:3128".into()),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&value), "{pointer}: {shown:#}");
    }
}

#[test]
fn quoted_keys_and_short_client_keys_are_warned_of() {
    let text = "[clients.a]\nkey = { env = \"SHORT\" }\n[clients.b]\nkey = { env = \"LONG\" }\n\
                [upstreams.openai]\napi_key = { env = \"QUOTED\" }\n";
    let load = |quoted| {
        let variables = [("SHORT", "0123456789marke"), ("LONG", "0123456789marker"), ("QUOTED", quoted)];
        load_text(Some(text), &variables, None).unwrap_or_else(|mistakes| panic!("{mistakes}")).warnings
    };
    let short =
        "streamgauge.toml:2: clients.a.key: is short enough to be guessed: take 16 characters or more";
    for quoted in ["\"sk-marker\"", "'sk-marker'"] {
        let [found_short, found_quoted] = &load(quoted)[..] else { panic!("{:?}", load(quoted)) };
        assert!(found_short.starts_with(short), "{found_short}");
        let start = "streamgauge.toml:6: upstreams.openai.api_key: the secret begins and ends with a quote";
        assert!(found_quoted.starts_with(start) && !found_quoted.contains("marker"), "{found_quoted}");
    }
    for plain in ["sk-marker", "\"sk-marker", "\"", "'sk-marker\""] {
        assert_eq!(load(plain).len(), 1, "{plain}");
    }
}

#[test]
fn two_clients_with_one_key_are_a_mistake() {
    let text = format!(
        "{OPENAI}[clients.a]\nkey = {{ value = \"0123456789-marker\" }}\n[clients.b]\nkey = {{ env = \"KEY\" }}\n"
    );
    let found =
        load_text(Some(&text), &[("KEY", "0123456789-marker")], None).expect_err("one key").to_string();
    assert!(
        found.contains("clients.b.key: is the key of clients.a too") && !found.contains("marker"),
        "{found}"
    );
}
