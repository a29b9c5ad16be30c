//! Mistakes of upstreams, and of the forward proxies to them.

use super::mistakes::each;
use super::*;

#[test]
fn provider_mistakes() {
    let other = "[upstreams.x]\nprovider = \"other\"\nurl = \"http://127.0.0.1:8000/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n";
    each(
        "",
        &[
            ("", "upstreams", "add [upstreams.openai] with api_key = { env = \"OPENAI_API_KEY\" }"),
            ("[upstreams]", "upstreams", "there is none"),
            (
                "[upstreams.x]\nurl = \"http://127.0.0.1:1\"",
                "upstreams.x.provider",
                "is missing: write \"openai\", \"azure\", \"anthropic\", \"gemini\" or \"other\"",
            ),
            (
                "[upstreams.x]\nprovider = \"vllm\"\nurl = \"http://127.0.0.1:1\"\napi_key = \"none\"",
                "upstreams.x.provider",
                "\"vllm\" is unknown: write \"openai\", \"azure\", \"anthropic\", \"gemini\" or \"other\"",
            ),
            (
                "[upstreams.openai]",
                "upstreams.openai.api_key",
                "is missing: write api_key = { env = \"NAME\" }",
            ),
            (
                "[upstreams.openai]\napi_key = \"none\"",
                "upstreams.openai.api_key",
                "for provider \"other\" only",
            ),
            (
                "[upstreams.azure]\napi_key = { value = \"k\" }",
                "upstreams.azure.url",
                "https://my-resource.openai.azure.com",
            ),
            (
                "[upstreams.azure]\napi_key = { value = \"k\" }\nurl = \"https://r.openai.azure.com/openai/v1/\"",
                "upstreams.azure.url",
                "remove that",
            ),
            (
                "[upstreams.azure]\napi_key = { value = \"k\" }\nurl = \"https://r\"\napi_version = \"2024\"",
                "upstreams.azure.api_version",
                "2024-10-21",
            ),
            (
                "[upstreams.azure]\napi_key = { value = \"k\" }\nurl = \"https://r\"\norganization = \"o\"",
                "upstreams.azure.organization",
                "is for OpenAI only",
            ),
            (
                "[upstreams.azure]\napi_key = { value = \"k\" }\nurl = \"https://r\"\nproject = \"p\"",
                "upstreams.azure.project",
                "is for OpenAI only",
            ),
            (
                "[upstreams.azure]\napi_key = { value = \"k\" }\nurl = \"https://r\"\ndeployments = { a = \"\" }",
                "upstreams.azure.deployments.a",
                "the name of a deployment is empty",
            ),
            (
                "[upstreams.x]\nprovider = \"other\"\napi_key = \"none\"\ndefault_model = \"m\"",
                "upstreams.x.url",
                "is missing",
            ),
            (
                "[upstreams.x]\nprovider = \"other\"\nurl = \"http://a\"\ndefault_model = \"m\"",
                "upstreams.x.api_key",
                "or \"none\" if the service needs none",
            ),
            (
                "[upstreams.x]\nprovider = \"other\"\nurl = \"http://a\"\napi_key = \"none\"",
                "upstreams.x.default_model",
                "is missing",
            ),
            (
                "[upstreams.x]\nprovider = \"other\"\nurl = \"http://a\"\napi_key = \"none\"\ndefault_model = \"\"",
                "upstreams.x.default_model",
                "is missing",
            ),
            (
                "[upstreams.\"a\\nb\"]\nprovider = \"openai\"\napi_key = { value = \"k\" }",
                "upstreams.\"a\\nb\"",
                "without spaces",
            ),
        ],
    );
    each(
        other,
        &[
            ("api_version = \"v1\"", "upstreams.x.api_version", "is for Azure only"),
            ("deployments = { a = \"b\" }", "upstreams.x.deployments", "are for Azure only"),
            ("models = { \"\" = \"b\" }", "upstreams.x.models.\"\"", "the name of a model is empty"),
        ],
    );
    each(
        OPENAI,
        &[
            ("url = \"api.openai.com\"", "upstreams.openai.url", "http:// or https://"),
            ("url = \"https://u:marker@a\"", "upstreams.openai.url", "api_key"),
            ("url = \"https://api.openai.com\"", "upstreams.openai.url", "https://api.openai.com/v1"),
            ("organization = \"a\\nb\"", "upstreams.openai.organization", "line break"),
            ("project = \"\u{e9}\"", "upstreams.openai.project", "ASCII"),
            ("http = \"3\"", "upstreams.openai.http", "\"3\" is unknown: write \"auto\", \"1\" or \"2\""),
            (
                "include_usage = \"yes\"",
                "upstreams.openai.include_usage",
                "\"yes\" is unknown: write \"auto\", \"always\" or \"never\"",
            ),
            ("timeouts = { connect = \"0s\" }", "upstreams.openai.timeouts.connect", "longer than zero"),
            ("timeouts = { first_byte = \"\" }", "upstreams.openai.timeouts.first_byte", "not a duration"),
            ("timeouts = { idle = \"2y\" }", "upstreams.openai.timeouts.idle", "not a duration"),
            ("timeouts = { total = \"400d\" }", "upstreams.openai.timeouts.total", "longer than a year"),
            ("pool = { idle_timeout = 60 }", "upstreams.openai.pool.idle_timeout", "in quotes"),
            (
                "on_disconnect = \"keep\"",
                "upstreams.openai.on_disconnect",
                "is unknown: write \"cancel\" or \"drain\"",
            ),
            ("drain_limits = { seconds = 0 }", "upstreams.openai.drain_limits.seconds", "at least 1"),
            ("drain_limits = { seconds = 86401 }", "upstreams.openai.drain_limits.seconds", "too long"),
            (
                "drain_limits = { seconds = \"5m\" }",
                "upstreams.openai.drain_limits.seconds",
                "a whole number",
            ),
            ("drain_limits = { bytes = 0 }", "upstreams.openai.drain_limits.bytes", "at least 1"),
            ("drain_limits = { concurrent = -1 }", "upstreams.openai.drain_limits.concurrent", ""),
            ("pool = { max_idle = \"many\" }", "upstreams.openai.pool.max_idle", "a whole number"),
        ],
    );
}

#[test]
fn header_mistakes() {
    each(
        &format!("{OPENAI}[upstreams.openai.headers]\n"),
        &[
            ("\"X Team\" = \"a\"", "upstreams.openai.headers.\"X Team\"", "not a header name"),
            ("X-Team = \"a\"\nx-team = \"b\"", "upstreams.openai.headers.x-team", "x-team is there already"),
            ("Host = \"a\"", "upstreams.openai.headers.Host", "cannot be set here"),
            ("Content-Length = \"1\"", "upstreams.openai.headers.Content-Length", "cannot be set here"),
            ("X-Team = \"a\\nb\"", "upstreams.openai.headers.X-Team", "the value has a line break"),
            ("X-Team = \" a\"", "upstreams.openai.headers.X-Team", "the value begins or ends with a space"),
            ("X-Team = 1", "upstreams.openai.headers.X-Team", "is a secret, which is a table"),
            ("X-Team = { env = \"GONE\" }", "upstreams.openai.headers.X-Team.env", "GONE is not set"),
        ],
    );
}

#[test]
fn network_mistakes() {
    let proxy = |lines: &str| format!("[network.proxy]\nurl = \"http://p\"\n{lines}");
    let cases = [
        ("[network]\nproxy = 3128".to_owned(), "network.proxy", "must be a table"),
        ("[network]\nproxy = \"p:3128\"".to_owned(), "network.proxy", "write \"none\", or http://"),
        ("[network]\nproxy = \"\"".to_owned(), "network.proxy", "write \"none\", or http://"),
        (
            "[network]\nproxy = \"http://me:marker@p\"".to_owned(),
            "network.proxy",
            "write username and password = { env",
        ),
        ("[network.proxy]".to_owned(), "network.proxy.url", "is missing: write where the proxy is"),
        ("[network.proxy]\nurl = \"ftp://p\"".to_owned(), "network.proxy.url", "its scheme is none of"),
        (proxy("user = \"me\""), "network.proxy.user", "did you mean `username`?"),
        (proxy("username = \"me\""), "network.proxy.password", "is missing: a username is there"),
        (
            proxy("password = { value = \"marker\" }"),
            "network.proxy.username",
            "is missing: a password is there",
        ),
        (proxy("password = \"marker\"\nusername = \"me\""), "network.proxy.password", "is a secret"),
        (
            proxy("password = { value = \"marker\" }\nusername = \"m:e\""),
            "network.proxy.username",
            "has a colon",
        ),
        (proxy("password = { value = \"marker\" }\nusername = \"\""), "network.proxy.username", "is empty"),
        (
            proxy(
                "password = { value = \"marker\" }\nusername = \"me\"\nheaders = { Proxy-Authorization = \"marker\" }",
            ),
            "network.proxy.username",
            "keep one of them",
        ),
        (proxy("headers = { Host = \"a\" }"), "network.proxy.headers.Host", "cannot be set here"),
        (proxy("verification_mode = \"full\""), "network.proxy.verification_mode", "its url is http://"),
        (
            "[network.proxy]\nurl = \"https://p\"\nverification_mode = \"off\"".to_owned(),
            "network.proxy.verification_mode",
            "is unknown: write \"full\", \"certificate\" or \"none\"",
        ),
        (
            "[network.proxy]\nurl = \"socks5://p\"\nheaders = { X-A = \"b\" }".to_owned(),
            "network.proxy.headers",
            "socks5 has no headers",
        ),
        (proxy("bypass = \"a\""), "network.proxy.bypass", "must be an array of texts"),
        (proxy("bypass = [1]"), "network.proxy.bypass[0]", "must be text in quotes"),
        (proxy("bypass = [\"a\", \"b:80\"]"), "network.proxy.bypass[1]", "without a scheme and a port"),
        (proxy("only = [\"10.0.0.0/40\"]"), "network.proxy.only[0]", "is not a network"),
        (
            "[upstreams.openai.proxy]\nurl = \"\"".to_owned(),
            "upstreams.openai.proxy.url",
            "write \"none\", or http://",
        ),
        ("[network]\nallowed_hosts = []".to_owned(), "network.allowed_hosts", "is empty"),
        ("[network]\nallowed_hosts = [\"*\", \".a\"]".to_owned(), "network.allowed_hosts[1]", "\"*.suffix\""),
        (
            "[network]\nallowed_hosts = [\"https://a\"]".to_owned(),
            "network.allowed_hosts[0]",
            "without a scheme",
        ),
        (
            "[network]\nallowed_hosts = [\"10.0.0.0/8\"]".to_owned(),
            "network.allowed_hosts[0]",
            "is not a host",
        ),
        ("[[network.hosts]]".to_owned(), "network.hosts[0].url", "is missing: write the host"),
        ("[[network.hosts]]\nurl = \"https://a/v1\"".to_owned(), "network.hosts[0].url", "has a path"),
        ("[[network.hosts]]\nurl = \"a\"".to_owned(), "network.hosts[0].url", "does not begin with http"),
        (
            "[[network.hosts]]\nurl = \"https://a\"\n[[network.hosts]]\nurl = \"https://A:443/\"".to_owned(),
            "network.hosts[1].url",
            "is there already",
        ),
        (
            "[[network.hosts]]\nurl = \"https://a\"\ntimeouts = { idel = \"1s\" }".to_owned(),
            "network.hosts[0].timeouts.idel",
            "did you mean `idle`?",
        ),
        (
            "[[network.hosts]]\nurl = \"https://a\"\ntimeouts = { idle = \"0s\" }".to_owned(),
            "network.hosts[0].timeouts.idle",
            "",
        ),
        ("[network]\nhosts = \"a\"".to_owned(), "network.hosts", "must be [[network.hosts]] tables"),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, key, reason)| (text.as_str(), *key, *reason)).collect();
    each(OPENAI, &cases);
    let several =
        "headers = { X-A = \"b\" }\nverification_mode = \"full\"\nusername = \"me\"\nbypass = [\"/\"]";
    let found = mistakes(&format!("{OPENAI}[network.proxy]\nurl = \"socks5://p\"\n{several}"));
    assert_eq!(found.len(), 4, "all are named in one go: {found:#?}");
    for (text, ..) in cases {
        assert!(!mistakes(&format!("{OPENAI}{text}")).concat().contains("marker"), "{text}");
    }
}

#[test]
fn first_byte_alone_applies_to_unstreamed_responses() {
    for (keys, seconds) in [
        ("", [200, 660]),
        ("first_byte = \"10m\"", [600, 600]),
        ("first_byte_unstreamed = \"20m\"", [200, 1200]),
        ("first_byte = \"5s\", first_byte_unstreamed = \"7s\"", [5, 7]),
    ] {
        let Timeouts { first_byte, first_byte_unstreamed, .. } =
            settings(&format!("{OPENAI}timeouts = {{ {keys} }}")).upstreams[0].timeouts;
        assert_eq!([first_byte, first_byte_unstreamed].map(|time| time.as_secs()), seconds, "{keys}");
    }
}

#[test]
fn query_values_are_shown_nowhere() {
    let text = format!(
        "{OPENAI}query = {{ tenant = \"t-marker\", key = {{ value = \"k-marker\" }}, other = {{ env = \"OTHER\" }} }}\n\
         [upstreams.query]\nprovider = \"other\"\nurl = \"http://127.0.0.1:1\"\napi_key = \"none\"\ndefault_model = \"m\"\n\
         [[routes]]\nupstream = \"query\""
    );
    let loaded = load_text(Some(&text), &[("OTHER", "o-marker")], None).unwrap();
    let upstreams = &loaded.settings.upstreams;
    assert_eq!((upstreams[0].query.len(), upstreams[1].query.len()), (3, 0));
    let shown = loaded.settings.effective.to_string();
    assert!(!shown.contains("marker") && shown.contains("\"OTHER\""), "{shown}");
    assert!(shown.contains("http://127.0.0.1:1"), "an upstream may be called query: {shown}");
    assert!(!format!("{:?}", loaded.settings).contains("marker"), "{:?}", loaded.settings);
}

#[test]
fn query_mistakes() {
    let azure = "[upstreams.azure]\napi_key = { value = \"k\" }\nurl = \"https://r\"\n";
    let named = |path: &str| format!("upstreams.{path}");
    for (text, path, reason) in [
        (format!("{OPENAI}query = {{ \"\" = \"x\" }}"), named("openai.query.\"\""), "is empty"),
        (format!("{OPENAI}query = {{ a = \"x\", A = \"y\" }}"), named("openai.query.A"), "there already"),
        (format!("{OPENAI}query = \"a=b\""), named("openai.query"), "a table of names"),
        (
            format!("{azure}api_version = \"preview\"\nquery = {{ \"api-version\" = \"v1\" }}"),
            named("azure.query.api-version"),
            "is what api_version says",
        ),
    ] {
        let [mistake] = &mistakes(&text)[..] else { panic!("{text}: {:?}", mistakes(&text)) };
        assert!(mistake.contains(&path) && mistake.contains(reason), "{mistake}");
    }
}

#[test]
fn url_that_ends_with_an_endpoint_is_warned_of() {
    let warnings = |url: &str| {
        let text = format!(
            "[upstreams.x]\nprovider = \"other\"\nurl = \"{url}\"\napi_key = \"none\"\ndefault_model = \"m\""
        );
        from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).warnings.join("\n")
    };
    for (url, endpoint, meant) in [
        ("http://127.0.0.1:8000/v1/chat/completions", "chat/completions", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/completions/", "completions", "http://127.0.0.1:8000/v1"),
        ("https://llm.internal/api/v1/responses", "responses", "https://llm.internal/api/v1"),
        ("https://llm.internal/messages", "messages", "https://llm.internal"),
        ("https://llm.internal/v1/models", "models", "https://llm.internal/v1"),
        ("https://llm.internal/v1/audio/transcriptions", "audio/transcriptions", "https://llm.internal/v1"),
    ] {
        let expected = format!(
            "upstreams.x.url: ends with {endpoint}, which requests bring themselves: write \"{meant}\""
        );
        assert!(warnings(url).contains(&expected), "{}", warnings(url));
    }
    for url in [
        "http://127.0.0.1:8000/v1",
        "https://r.services.ai.azure.com/models",
        "https://a.example/completions/v1",
    ] {
        assert_eq!(warnings(url), "", "{url}");
    }
}
