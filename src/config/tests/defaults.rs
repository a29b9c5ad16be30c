//! The defaults: `config/default.toml`, those of an upstream, and the examples.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::description::reference;
use crate::llm::provider::{ApiVersion, Provider};
use crate::support::telemetry::LogFormat;

/// The variables that the reference and the examples name.
const VARIABLES: [(&str, &str); 30] = [
    ("ALERTS_URL", "https://hooks.example/services/T0/B0/secret"),
    ("ALERTS_KEY", "alerts-0123456789"),
    ("OPENAI_API_KEY", "sk-openai"),
    ("AZURE_OPENAI_API_KEY", "az-key"),
    ("AZURE_PTU_KEY", "az-ptu"),
    ("AZURE_EAST_KEY", "az-east"),
    ("AZURE_WEST_KEY", "az-west"),
    ("AZURE_STANDARD_KEY", "az-standard"),
    ("LLM_KEY", "llm-key"),
    ("ANTHROPIC_API_KEY", "sk-ant"),
    ("GEMINI_API_KEY", "AIza"),
    ("CO_API_KEY", "co"),
    ("INTERNAL_LLM_KEY", "internal-key"),
    ("SEARCH_TEAM_KEY", "sg-search-0123456"),
    ("OLD_SEARCH_KEY", "sg-old-search-0123456"),
    ("SUPPORT_TEAM_KEY", "sg-support-0123456"),
    ("GATEWAY_KEY", "gw-key"),
    ("PROXY_PASSWORD", "proxy-password"),
    ("LEDGER_URL", "postgres://streamgauge:db-password@db.internal/usage"),
    ("REDIS_URL", "rediss://:redis-password@redis.internal"),
    ("SENTINEL_PASSWORD", "sentinel-password"),
    ("OTLP_AUTHORIZATION", "Bearer otlp"),
    ("SERVER_KEY_PASSPHRASE", "pass"),
    ("CLIENT_KEY_PASSPHRASE", "pass"),
    ("ENTRA_KEY_PASSPHRASE", "pass"),
    ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
    ("AZURE_TENANT_ID", "tenant-1"),
    ("AZURE_CLIENT_SECRET", "entra-secret"),
    ("ADMIN_TOKEN", "0123456789abcdef"),
    ("ADMIN_READ_TOKEN", "fedcba9876543210"),
];

/// The variables and their values; certificates have encrypted keys, as in the reference.
fn variables() -> BTreeMap<String, String> {
    let mut variables = env(&VARIABLES);
    let pair = certificates::Authority::new("a").issue_encrypted("b", "pass");
    for (name, text) in [
        ("SERVER_CERTIFICATE", &pair.certificate),
        ("SERVER_KEY", &pair.key),
        ("CLIENT_CERTIFICATE", &pair.certificate),
        ("CLIENT_KEY", &pair.key),
        ("CLIENT_CA", &pair.certificate),
        ("INTERNAL_CA", &pair.certificate),
    ] {
        variables.insert(name.to_owned(), text.clone());
    }
    let (rsa, encrypted) = rsa();
    variables.insert("ENTRA_CERTIFICATE".to_owned(), rsa.certificate);
    variables.insert("ENTRA_KEY".to_owned(), encrypted);
    variables.insert(
        "GOOGLE_CREDENTIALS".to_owned(),
        service_account(&rsa.key, "https://oauth2.googleapis.com/token"),
    );
    variables
}

#[test]
fn compiled_in_defaults_are_those_of_the_design() {
    let Settings { server, admin, ledger, log, clients, routes, .. } = settings(OPENAI);
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert!(server.workers >= 1, "0 is one per CPU");
    assert_eq!(
        (server.max_request_bytes, server.max_buffered_bytes, server.max_connections),
        (32 << 20, 512 << 20, 0)
    );
    let seconds =
        [server.drain_timeout, server.header_timeout, server.keep_alive_timeout].map(|time| time.as_secs());
    assert_eq!(seconds, [30, 30, 620]);
    assert_eq!(server.write_timeout, Some(Duration::from_secs(300)));
    assert_eq!(server.min_body_rate.map(u32::from), Some(500));
    assert_eq!(admin.listen.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!((ledger.path.as_deref(), ledger.jsonl), (Some(Path::new("streamgauge.db")), None));
    assert_eq!(ledger.retention, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(ledger.rollup_retention, None);
    assert_eq!((log.format, log.level.as_str()), (LogFormat::Text, "info"));
    assert!(clients.is_empty() && routes.is_empty());
}

#[test]
fn upstream_defaults_are_those_of_the_design() {
    let [upstream] = &settings(OPENAI).upstreams[..] else { panic!("one upstream") };
    assert_eq!(upstream.provider, Provider::OpenAi);
    assert_eq!(upstream.url.to_string(), "https://api.openai.com/v1");
    assert_eq!(upstream.api_version, ApiVersion::V1);
    assert_eq!((&upstream.organization, &upstream.project, &upstream.default_model), (&None, &None, &None));
    let Timeouts { connect, first_byte, first_byte_unstreamed, idle, total } = upstream.timeouts;
    let seconds = [connect, first_byte, first_byte_unstreamed, idle].map(|time| time.as_secs());
    assert_eq!(seconds, [5, 200, 660, 120]);
    assert_eq!(total, None);
    assert_eq!(upstream.max_connection_age, Some(Duration::from_secs(600)));
    assert_eq!(upstream.keep_alive_comments, None);
    assert_eq!(upstream.on_disconnect, OnDisconnect::Cancel);
    let limits = DrainLimits { time: Duration::from_secs(300), bytes: 64 << 20, concurrent: 256 };
    assert_eq!(upstream.drain_limits, limits);
    assert_eq!((upstream.pool.idle_timeout, upstream.pool.max_idle), (Duration::from_secs(60), 64));
}

#[test]
fn reference_shows_the_defaults_of_an_upstream() {
    let variables = variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "sg-search-from-a-file").unwrap();
    let reference = reference().replace("keys/search", key.path().to_str().unwrap());
    let loaded =
        load_text(Some(&reference), &variables, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.warnings, [""; 0]);
    let [shown, ..] = &loaded.settings.upstreams[..] else { panic!("upstreams") };
    let [default] = &settings(OPENAI).upstreams[..] else { panic!("one upstream") };
    assert_eq!(format!("{:?}", shown.timeouts), format!("{:?}", default.timeouts));
    assert_eq!(format!("{:?}", shown.pool), format!("{:?}", default.pool));
    assert_eq!((shown.on_disconnect, shown.drain_limits), (default.on_disconnect, default.drain_limits));
    assert_eq!((shown.http, default.http), (HttpVersion::Auto, HttpVersion::Auto));
    assert_eq!(shown.max_connection_age, default.max_connection_age);
    assert_eq!((&shown.name, &shown.url), (&default.name, &default.url));
}

#[test]
fn examples_load_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut found = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let sources = Sources { file: Some(path.clone()), env: env(&VARIABLES), ..Sources::default() };
        let loaded = load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(loaded.warnings, [""; 0], "{}", path.display());
        found += 1;
    }
    assert!(found >= 5, "there are {found} examples in {}", folder.display());
}

#[test]
fn upstreams_clients_and_headers_keep_their_order() {
    let text = r#"
        [clients.zoe]
        key = { value = "1" }
        [clients.adam]
        key = { value = "2" }
        [upstreams.openai]
        api_key = { value = "k" }
        headers = { X-Z = "1", X-A = "2" }
        [upstreams.azure]
        url = "https://r"
        api_key = { value = "k" }
        [[routes]]
        model = "gpt*"
        upstream = "azure"
        [[routes]]
        path = "/o"
        upstream = "openai"
    "#;
    let Settings { clients, upstreams, routes, .. } = settings(text);
    assert_eq!(clients.iter().map(|client| client.name.as_str()).collect::<Vec<_>>(), ["zoe", "adam"]);
    assert_eq!(
        upstreams.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>(),
        ["openai", "azure"]
    );
    assert_eq!(
        upstreams[0].headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["x-z", "x-a"]
    );
    let azure = Route { path: None, model: Some("gpt*".to_owned()), target: RouteTarget::Upstream(1) };
    let openai = Route { path: Some("/o".to_owned()), model: None, target: RouteTarget::Upstream(0) };
    assert_eq!(routes, [azure, openai]);
}

#[test]
fn body_rate_is_bytes_per_second_or_none() {
    for (text, rate) in [("\"500B/s\"", 500), ("\"2KiB/s\"", 2048), ("1000", 1000), ("\"\"", 0), ("0", 0)] {
        let server = settings(&format!("[server]\nmin_body_rate = {text}\n{OPENAI}")).server;
        assert_eq!(server.min_body_rate.map_or(0, u32::from), rate, "{text}");
    }
}
