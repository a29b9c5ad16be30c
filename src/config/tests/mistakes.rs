//! Mistakes. Each line: the text, the key that is named, a part of the reason.

use super::*;

/// Each configuration has exactly this one mistake.
pub(super) fn each(base: &str, cases: &[(&str, &str, &str)]) {
    for (text, key, reason) in cases {
        let text = format!("{base}{text}");
        let found = mistakes(&text);
        assert_eq!(found.len(), 1, "one mistake in\n{text}\nfound {found:#?}");
        let expected = format!("configuration: {key}: ");
        assert!(found[0].starts_with(&expected), "{expected:?} in\n{text}\nfound {found:#?}");
        assert!(found[0].contains(reason), "{reason:?} in\n{text}\nfound {found:#?}");
    }
}

#[test]
fn unknown_key_mistakes() {
    each(
        OPENAI,
        &[
            ("[server]\nlistn = \"\"", "server.listn", "unknown key; did you mean `listen`?"),
            ("[serverr]", "serverr", "did you mean `server`?"),
            ("[ledger]\nretain = \"90d\"", "ledger.retain", "unknown key"),
            (
                "[upstreams.openai.timeouts]\nconect = \"1s\"",
                "upstreams.openai.timeouts.conect",
                "did you mean `connect`?",
            ),
            (
                "[upstreams.openai.pool]\nidle = \"1s\"",
                "upstreams.openai.pool.idle",
                "did you mean `idle_timeout`?",
            ),
            (
                "[clients.a]\nkey = { value = \"k\" }\napi_key = \"\"",
                "clients.a.api_key",
                "did you mean `key`?",
            ),
            ("[server]\njsonl = \"-\"", "server.jsonl", "did you mean `ledger.jsonl`?"),
            (
                "[log]\ndefault_model = \"m\"",
                "log.default_model",
                "did you mean `upstreams.NAME.default_model`?",
            ),
            (
                "[[routes]]\nupstream = \"openai\"\nmodell = \"x\"",
                "routes[0].modell",
                "did you mean `model`?",
            ),
            ("[server]\n\"a.b c\" = 1", "server.\"a.b c\"", "unknown key"),
        ],
    );
    let above = "listen = \"127.0.0.1:1\"\napi_key = \"sk-marker\"\n";
    let expected = [
        "configuration: listen: unknown key; did you mean `admin.listen` or `server.listen`?",
        "configuration: api_key: unknown key; did you mean `upstreams.NAME.api_key`?",
    ];
    assert_eq!(mistakes(&format!("{above}{OPENAI}")), expected, "keys that lack their table");
}

#[test]
fn type_mistakes() {
    each(
        OPENAI,
        &[
            ("[server]\nlisten = \"unix:x.sock\"", "server.listen", "is not an absolute path"),
            ("[server]\nsocket_mode = \"0999\"", "server.socket_mode", "write three octal digits"),
            (
                "[server]\nlisten = 8080",
                "server.listen",
                "must be an address and a port, or a Unix socket, in quotes",
            ),
            (
                "[server]\nworkers = \"2\"",
                "server.workers",
                "must be a whole number without quotes, not text",
            ),
            ("[server]\nworkers = -1", "server.workers", "0 or more"),
            ("[server]\nworkers = 1.5", "server.workers", "must be a whole number"),
            (
                "[server]\nallow_anonymous = \"yes\"",
                "server.allow_anonymous",
                "must be true or false without quotes, not text",
            ),
            (
                "[server]\ndrain_timeout = 30",
                "server.drain_timeout",
                "must be a duration in quotes, such as \"30s\" or \"90d\", not a number",
            ),
            (
                "[server]\nmax_request_bytes = true",
                "server.max_request_bytes",
                "must be a number of bytes, such as",
            ),
            ("[log]\nlevel = []", "log.level", "not an array"),
            ("[ledger]\npath = {}", "ledger.path", "must be text in quotes, not a table"),
            ("[ledger]\nretention = 90", "ledger.retention", "or \"90d\", not a number"),
            ("[ledger]\nretention = \"90\"", "ledger.retention", "has no unit"),
            ("[ledger]\nretention = \"0d\"", "ledger.retention", "must be longer than zero"),
            (
                "[ledger]\nrollup_retention = \"89d\"",
                "ledger.rollup_retention",
                "shorter than ledger.retention",
            ),
            (
                "[upstreams.azure]\napi_version = 2024-10-21\nurl = \"https://r\"\napi_key = { value = \"k\" }\n[[routes]]\nupstream = \"openai\"",
                "upstreams.azure.api_version",
                "must be text in quotes, \"v1\", \"preview\" or a day such as \"2024-10-21\", not a date without quotes",
            ),
            (
                "[upstreams.openai.models]\na = 1",
                "upstreams.openai.models.a",
                "must be text in quotes, not a number",
            ),
        ],
    );
    each(
        "",
        &[
            (
                "server = 1\n[upstreams.openai]\napi_key = { value = \"k\" }",
                "server",
                "must be a table, as in [server], not a number",
            ),
            (
                "clients = 1\n[upstreams.openai]\napi_key = { value = \"k\" }",
                "clients",
                "must be a table of names",
            ),
            ("upstreams = \"openai\"", "upstreams", "must be a table of names"),
            (
                "[upstreams]\nopenai = 2024-10-21",
                "upstreams.openai",
                "must be a table, as in [upstreams.openai], not a date",
            ),
            (
                "routes = \"x\"\n[upstreams.openai]\napi_key = { value = \"k\" }",
                "routes",
                "must be [[routes]] tables, not text",
            ),
            (
                "[routes]\n[upstreams.openai]\napi_key = { value = \"k\" }",
                "routes",
                "must be [[routes]] tables, not a table",
            ),
            ("routes = [1]\n[upstreams.openai]\napi_key = { value = \"k\" }", "routes[0]", "must be a table"),
        ],
    );
}

#[test]
fn server_mistakes() {
    each(
        OPENAI,
        &[
            (
                "[server]\nlisten = \"localhost\"",
                "server.listen",
                "not an address and a port: write for example",
            ),
            (
                "[server]\nlisten = \":8080\"",
                "server.listen",
                "write \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for all",
            ),
            ("[server]\nlisten = \"\"", "server.listen", "not an address and a port"),
            ("[server]\nworkers = 4096", "server.workers", "too many"),
            (
                "[server]\ntrusted_proxies = [\"lb.internal\"]",
                "server.trusted_proxies[0]",
                "is not a network: write",
            ),
            (
                "[server]\ntrusted_proxies = [\"10.0.0.1/8\"]",
                "server.trusted_proxies[0]",
                "write \"10.0.0.0/8\"",
            ),
            ("[server]\nproxy_protocol = true", "server.proxy_protocol", "list the networks of yours"),
            ("[server]\nmax_request_bytes = \"32M\"", "server.max_request_bytes", "not a number of bytes"),
            ("[server]\nmax_request_bytes = 0", "server.max_request_bytes", "at least 1 byte"),
            ("[server]\nmax_buffered_bytes = \"0\"", "server.max_buffered_bytes", "at least 1 byte"),
            (
                "[server]\nmax_memory = \"15MiB\"",
                "server.max_memory",
                "must be at least 16MiB; 0 is no limit",
            ),
            ("[server]\nmax_memory = \"64M\"", "server.max_memory", "not a number of bytes"),
            ("[server]\nmax_request_bytes = -5", "server.max_request_bytes", "0 or more"),
            ("[server]\ndrain_timeout = \"30\"", "server.drain_timeout", "write \"30s\""),
            ("[server]\nheader_timeout = \"0s\"", "server.header_timeout", "longer than zero"),
            ("[server]\nwrite_timeout = \"0s\"", "server.write_timeout", ""),
            (
                "[server]\nmin_body_rate = \"fast\"",
                "server.min_body_rate",
                "such as \"500B/s\", or \"\" for none",
            ),
            ("[server]\nmin_body_rate = \"8GiB/s\"", "server.min_body_rate", "less than 4GiB/s"),
            ("[server]\nkeep_alive_timeout = \"soon\"", "server.keep_alive_timeout", "not a duration"),
            ("[admin]\nlisten = \"9090\"", "admin.listen", "not an address and a port"),
            ("[ledger]\npath = \"a\"\njsonl = \"a\"", "ledger.jsonl", "is also the file of ledger.path"),
            ("[log]\nformat = \"xml\"", "log.format", "write \"text\" or \"json\""),
            ("[log]\nlevel = \"info,[\"", "log.level", "not a filter such as"),
        ],
    );
}

#[test]
fn route_mistakes() {
    let two = format!("{OPENAI}[upstreams.azure]\nurl = \"https://r\"\napi_key = {{ value = \"k\" }}\n");
    let route = |lines: &str| format!("[[routes]]\n{lines}\n");
    let all = route("upstream = \"openai\"");
    each(
        &two,
        &[
            ("", "routes", "there are none, and 2 upstreams"),
            (
                &route("upstream = \"azrue\""),
                "routes[0].upstream",
                "there is no upstream \"azrue\"; did you mean \"azure\"?",
            ),
            (&route("upstream = \"vertex\""), "routes[0].upstream", "only openai, azure"),
            (&route("path = \"/a\""), "routes[0].upstream", "is missing"),
            (&route("upstream = 1"), "routes[0].upstream", "must be the name of an upstream in quotes"),
            (&route("path = \"azure\"\nupstream = \"azure\""), "routes[0].path", "must begin with a slash"),
            (
                &route("path = \"/azure/\"\nupstream = \"azure\""),
                "routes[0].path",
                "must not end with a slash",
            ),
            (&route("path = \"/\"\nupstream = \"azure\""), "routes[0].path", "leave it out"),
            (&route("path = \"/a?b\"\nupstream = \"azure\""), "routes[0].path", "a path cannot have"),
            (&route("model = \"\"\nupstream = \"azure\""), "routes[0].model", "leave it out"),
            (
                &format!("{all}{}", route("path = \"/azure\"\nupstream = \"azure\"")),
                "routes[1]",
                "routes[0] takes all of them first",
            ),
            (
                &format!(
                    "{}{}{all}",
                    route("model = \"gpt*\"\nupstream = \"azure\""),
                    route("model = \"gpt-4o\"\nupstream = \"openai\"")
                ),
                "routes[1]",
                "no request ever gets here",
            ),
        ],
    );
}

#[test]
fn mistakes_are_all_named_in_the_order_of_the_file() {
    let text = r#"
        [upstreams.internal]
        provider = "other"
        url = "llm.internal"
        timeouts = { idle = "2 minutes" }

        [server]
        workers = "4"
        listen = "0.0.0.0:8080"

        [[routes]]
        upstream = "opnai"
        path = "x"

        [upstreams.azure]
        api_key = "sk-marker"
        deploymnets = { a = "b" }

        [upstreams.openai]
        api_key = { env = "NOT_SET" }

        [clients]
        alice = "sk-marker"

        [logs]
        level = "info"
    "#;
    let variables = [("STREAMGAUGE_LEDGER__PTH", "x"), ("STREAMGAUGE_SERVER__", "x")];
    let found = lines(load_text(Some(text), &variables, Some("nowhere")).expect_err(text));
    let expected = [
        "streamgauge.toml: upstreams.internal.api_key: is missing",
        "streamgauge.toml: upstreams.internal.default_model: is missing",
        "streamgauge.toml: upstreams.internal.url: it does not begin with",
        "streamgauge.toml: upstreams.internal.timeouts.idle: \"2 minutes\"",
        "streamgauge.toml: upstreams.azure.url: is missing",
        "streamgauge.toml: upstreams.azure.api_key: is a secret",
        "streamgauge.toml: upstreams.azure.deploymnets: unknown key; did you mean `deployments`?",
        "streamgauge.toml: upstreams.openai.api_key.env: the environment variable NOT_SET",
        "streamgauge.toml: server.workers: must be a whole number",
        "streamgauge.toml: routes[0].upstream: there is no upstream \"opnai\"; did you mean \"openai\"?",
        "streamgauge.toml: routes[0].path: \"x\" must begin with a slash",
        "streamgauge.toml: clients.alice: must be a table",
        "streamgauge.toml: logs: unknown key; did you mean `log`?",
        "environment STREAMGAUGE_SERVER__: is not a key",
        "environment STREAMGAUGE_LEDGER__PTH: unknown key; did you mean `path`?",
        "--listen: \"nowhere\" is not an address and a port",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected:?}, found {found:?}");
    }
    assert!(!found.concat().contains("marker"), "{found:#?}");
}

#[test]
fn mistake_is_one_line() {
    let mistakes = from_text("x = 1\n[upstreams.\"a\\nb\"]\nprovider = \"a\\nb\"\nurl = \"\"\n").unwrap_err();
    assert!(mistakes.0.len() >= 4, "{mistakes}");
    assert_eq!(mistakes.to_string().lines().count(), mistakes.0.len(), "{mistakes}");
}

#[test]
fn probable_mistakes_are_warned_of() {
    let text = r#"
        [server]
        allow_anonymous = true
        max_buffered_bytes = "1MiB"
        max_memory = "32MiB"
        [clients.a]
        key = { value = "0123456789abcdef" }
        [upstreams.openai]
        url = "http://proxy.internal/v1"
        api_key = { value = "sk-1" }
        [upstreams.local]
        provider = "other"
        url = "http://localhost:8000/v1"
        api_key = { value = "sk-2" }
        default_model = "m"
        [[routes]]
        upstream = "openai"
    "#;
    let warnings = from_text(text).unwrap().warnings;
    let expected = [
        "configuration: server.allow_anonymous: has no effect",
        "configuration: server.max_buffered_bytes: is less than server.max_request_bytes",
        "configuration: server.max_memory: is too small for server.max_request_bytes",
        "configuration: upstreams.openai.url: is http:// to another machine",
        "configuration: upstreams.local: no route leads here",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(expected), "{expected:?}, found {warning:?}");
    }
    assert_eq!(from_text(OPENAI).unwrap().warnings, [""; 0]);
}
