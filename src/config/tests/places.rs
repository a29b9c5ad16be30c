//! The places that messages name.

use super::*;

#[test]
fn mistakes_and_warnings_have_the_line_of_their_key() {
    let text = "# my configuration\n[server]\nworkers = \"4\"\n\n[upstreams.openai]\napi_key = { value = \"sk-1\" }\n\
                urll = 1\n[upstreams.azure]\napi_key = { value = \"k\" }\n[[routes]]\nupstream = \"opnai\"\n";
    let found = load_text(Some(text), &[], None).expect_err(text).to_string();
    let starts = [
        "streamgauge.toml:3: server.workers: must be",
        "streamgauge.toml:7: upstreams.openai.urll: unknown key",
        "streamgauge.toml:8: upstreams.azure.url: is missing",
        "streamgauge.toml:11: routes[0].upstream: there is no upstream",
    ];
    let found: Vec<_> = found.lines().collect();
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{start:?}, found {found:?}");
    }
    let text = "[server]\nallow_anonymous = true\n\n[clients.a]\nkey = { value = \"0123456789abcdef\" }\n"
        .to_owned()
        + OPENAI;
    let warnings = load_text(Some(&text), &[], None).unwrap().warnings;
    assert!(
        warnings[0].starts_with("streamgauge.toml:2: server.allow_anonymous: has no effect"),
        "{warnings:?}"
    );
}
