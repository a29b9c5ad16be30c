//! Clients and teams.

use jiff::Timestamp;

use super::certificates::Authority;
use super::*;
use crate::gate::{AllowedEndpoints, KeyDigest};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A key that is long enough.
pub(super) const KEY: &str = "key = { value = \"0123456789abcdef\" }\n";

pub(super) fn loaded(text: &str) -> Loaded {
    from_text(&format!("{OPENAI}{text}")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn client_has_several_keys_of_every_form() {
    let text = format!(
        "{OPENAI}[ledger]\ntime_zone = \"Europe/Berlin\"\n[clients.a]\n{KEY}\
         keys = [{{ sha256 = \"{DIGEST}\", until = \"2999-01-31\" }}, {{ env = \"KEY\", until = 2999-06-30T12:00:00Z }}]\n"
    );
    let loaded = load_text(Some(&text), &[("KEY", "0123456789-from-env")], None).unwrap();
    let keys = &loaded.settings.clients[0].keys;
    let digests: Vec<_> = keys.iter().map(|key| key.digest).collect();
    let expected: [&[u8]; 3] = [b"0123456789abcdef", b"test", b"0123456789-from-env"];
    assert_eq!(digests, expected.map(KeyDigest::of));
    let until: Vec<_> = keys.iter().map(|key| key.until.map(|until| until.to_string())).collect();
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(until, [None, at("2999-01-30T23:00:00Z"), at("2999-06-30T12:00:00Z")]);
    assert_eq!(loaded.warnings, [""; 0]);
    let shown = loaded.settings.effective.to_string();
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
}

#[test]
fn key_in_a_list_is_masked_and_warned_of() {
    let text = "[clients.a]\nkeys = [{ value = \"short-marker\", until = \"2026-01-01\" }]";
    let loaded = loaded(text);
    assert!(!loaded.settings.effective.to_string().contains("marker"));
    assert!(loaded.settings.clients[0].keys[0].until.unwrap() < Timestamp::now());
    let [short, over] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(short.contains("clients.a.keys[0].value: is short enough to be guessed"), "{short}");
    assert!(over.contains("clients.a.keys[0].until: is over: the key is refused"), "{over}");
}

#[test]
fn client_may_use_metered_endpoints_if_its_models_are_named() {
    for (keys, endpoints) in [
        ("", AllowedEndpoints::All),
        ("models = [\"*\"]", AllowedEndpoints::All),
        ("models = [\"gpt*\"]", AllowedEndpoints::Metered),
        ("models = [\"gpt*\"]\nendpoints = \"all\"", AllowedEndpoints::All),
        ("endpoints = \"metered\"", AllowedEndpoints::Metered),
    ] {
        let loaded = loaded(&format!("[clients.a]\n{KEY}{keys}"));
        assert_eq!(loaded.settings.clients[0].endpoints, endpoints, "{keys}");
    }
}

#[test]
fn client_of_certificate_needs_no_key() {
    let (ca, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let pair = ca.issue("one", &[]);
    for (name, text) in [("one.crt", &pair.certificate), ("one.key", &pair.key), ("ca.crt", &ca.pem())] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().join("streamgauge.toml");
    let load = |tls: &str| {
        let text = format!(
            "{OPENAI}[server.tls]\ncertificate = {{ file = \"one.crt\" }}\nprivate_key = {{ file = \"one.key\" }}\n{tls}\n\
             [clients.cn]\nmodels = [\"gpt*\"]\n[keys]\nfile = \"\"\n"
        );
        std::fs::write(&path, text).unwrap();
        load(&Sources { file: Some(path.clone()), ..Sources::default() })
    };
    let loaded = load("client_ca = { file = \"ca.crt\" }").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(loaded.settings.clients[0].keys.is_empty());
    let found = lines(load("").expect_err("no certificate names the client"));
    assert!(found[0].contains("clients.cn.key: is missing"), "{found:?}");
}

#[test]
fn client_is_in_a_team_that_is_in_another() {
    let text = format!(
        "[clients.a]\n{KEY}team = \"search\"\npriority = 3\nshare = 2\n[teams.search]\nteam = \"company\"\n[teams.company]\n"
    );
    let loaded = loaded(&text);
    let (client, teams) = (&loaded.settings.clients[0], &loaded.settings.teams);
    let team = |name: &str| teams.iter().position(|team| team.name == name);
    assert_eq!((client.team, client.priority, client.share), (team("search"), 3, 2));
    assert_eq!(teams[team("search").unwrap()].team, team("company"));
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn mistakes_of_clients_and_teams_are_named() {
    let client = |keys: &str| format!("[clients.a]\n{KEY}{keys}");
    let keys = |keys: &str| format!("[clients.a]\nkeys = [{keys}]");
    for (text, key, reason) in [
        (keys("") + "\n[keys]\nfile = \"\"", "clients.a.key", "is missing: write key ="),
        (keys("\"sk-marker\""), "clients.a.keys[0]", "must be a table"),
        (keys("{}"), "clients.a.keys[0].sha256", "is missing; write one of sha256 ="),
        (keys("{ until = \"2999-01-01\" }"), "clients.a.keys[0].sha256", "is missing"),
        (
            keys(&format!("{{ sha256 = \"{DIGEST}\", value = \"0123456789-marker\" }}")),
            "clients.a.keys[0].sha256",
            "has other sources beside it",
        ),
        (keys("{ sha256 = \"sk-marker\" }"), "clients.a.keys[0].sha256", "is not a digest: write 64"),
        (keys("{ env = \"NO_SUCH\" }"), "clients.a.keys[0].env", "NO_SUCH is not set"),
        (keys("{ file = \"/no/such\" }"), "clients.a.keys[0].file", "there is no file /no/such"),
        (
            keys(&format!("{{ sha256 = \"{DIGEST}\", until = \"tomorrow\" }}")),
            "clients.a.keys[0].until",
            "\"tomorrow\" is not a time: write a day",
        ),
        (
            keys(&format!("{{ sha256 = \"{DIGEST}\", from = \"x\" }}")),
            "clients.a.keys[0].from",
            "unknown key",
        ),
        (
            keys(&format!("{{ sha256 = \"{DIGEST}\" }}, {{ value = \"test\" }}")),
            "clients.a.keys[1]",
            "is a key that this client has already",
        ),
        (
            format!(
                "{}\n[clients.b]\nkey = {{ value = \"test\" }}",
                keys(&format!("{{ sha256 = \"{DIGEST}\" }}"))
            ),
            "clients.b.key",
            "is the key of clients.a too",
        ),
        (client("models = []"), "clients.a.models", "is empty: name the models"),
        (client("models = [\"\"]"), "clients.a.models[0]", "is empty: write \"*\""),
        (client("endpoints = \"some\""), "clients.a.endpoints", "write \"metered\" or \"all\""),
        (client("max_output = 0"), "clients.a.max_output", "is 0, which would refuse every request"),
        (client("share = 0"), "clients.a.share", "must be from 1 to 1000"),
        (client("priority = 1001"), "clients.a.priority", "must be from 0 to 1000"),
        (client("team = \"x\""), "clients.a.team", "there is no team \"x\": add [teams.x]"),
        (
            client("team = \"serch\"\n[teams.search]"),
            "clients.a.team",
            "there is no team \"serch\"; did you mean \"search\"?",
        ),
        ("[teams.a]\nteam = \"a\"".to_owned(), "teams.a.team", "leads back to a: end the circle"),
        (
            "[teams.a]\nteam = \"b\"\n[teams.b]\nteam = \"c\"\n[teams.c]\nteam = \"b\"".to_owned(),
            "teams.b.team",
            "leads back to b, by c: end the circle",
        ),
        ("[teams.\"a b\"]".to_owned(), "teams.\"a b\"", "without spaces"),
    ] {
        let found = mistakes(&format!("{OPENAI}{text}"));
        let [mistake] = &found[..] else { panic!("{text}: {found:?}") };
        assert!(mistake.contains(&format!("{key}: ")) && mistake.contains(reason), "{text}: {mistake}");
        assert!(!mistake.contains("marker"), "{mistake}");
    }
}

#[test]
fn unused_teams_and_models_are_warned_of() {
    let text = format!(
        "[clients.a]\n{KEY}models = [\"gpt-5*\", \"claude*\"]\n[teams.t]\n\
         [[routes]]\nmodel = \"gpt*\"\nupstream = \"openai\"\n[[routes]]\nmodel = \"*-mini\"\nupstream = \"openai\"\n"
    );
    let loaded = loaded(&text);
    let warnings = &loaded.warnings;
    assert!(warnings[0].contains("teams.t: has no effect: no client"), "{warnings:?}");
    // `claude*` overlaps with `*-mini`.
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let text = text.replace("*-mini", "o3*");
    let warnings = from_text(&format!("{OPENAI}{text}")).unwrap().warnings;
    let reason = "clients.a.models: no route takes \"claude*\"";
    assert!(warnings.iter().any(|warning| warning.contains(reason)), "{warnings:?}");
}
