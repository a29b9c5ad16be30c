//! The contract with users.

mod access;
mod alerts;
mod clients;
mod defaults;
mod description;
mod groups;
mod identities;
mod limits;
mod mistakes;
mod network;
mod otlp;
mod places;
mod postgres;
mod precedence;
mod prices;
mod redis;
mod secrets;
mod stored_keys;
mod tags;
mod tls;
mod upstreams;

use std::collections::BTreeMap;

use super::*;
use crate::tls::tests::certificates;

/// An upstream without mistakes.
const OPENAI: &str = "[upstreams.openai]\napi_key = { value = \"sk-1\" }\n";

fn settings(text: &str) -> Settings {
    from_text(text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
}

fn mistakes(text: &str) -> Vec<String> {
    lines(from_text(text).expect_err(text))
}

/// The lines of the message, without line numbers.
fn lines(mistakes: Mistakes) -> Vec<String> {
    mistakes.0.iter().map(|mistake| without_line(&mistake.to_string())).collect()
}

fn without_line(message: &str) -> String {
    let (file, rest) = message.split_once(".toml:").unwrap_or(("", ""));
    match rest.split_once(": ") {
        Some((line, rest)) if line.parse::<usize>().is_ok() => format!("{file}.toml: {rest}"),
        _ => message.to_owned(),
    }
}

/// A certificate with an RSA key, and that key under the passphrase `pass`.
fn rsa() -> (certificates::Pair, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let pair = certificates::Authority::new("a").issue_for(&key, "app", &[]);
    (pair, certificates::encrypted(&key, "pass"))
}

/// The file of a service account's key.
fn service_account(key: &str, token_uri: &str) -> String {
    serde_json::json!({
        "type": "service_account",
        "client_email": "app@project.iam.gserviceaccount.com",
        "private_key_id": "k1",
        "private_key": key,
        "token_uri": token_uri,
    })
    .to_string()
}

fn env(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// [`load`] without the machine's own files.
fn load_text(
    text: Option<&str>,
    variables: &[(&str, &str)],
    listen: Option<&str>,
) -> Result<Loaded, Mistakes> {
    let file =
        text.map(|text| File::parse(Some("streamgauge.toml".into()), text).unwrap_or_else(|e| panic!("{e}")));
    let overrides = Overrides { listen: listen.map(str::to_owned) };
    assemble(file, &Sources { file: None, env: env(variables), overrides }, Files::default())
}
