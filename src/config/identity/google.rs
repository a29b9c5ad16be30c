//! `google` of an upstream.

use serde_json::Value;

use super::{Place, endpoint};
use crate::config::network::Network;
use crate::config::notes::Read;
use crate::config::reader::Table;
use crate::config::secrets::document;
use crate::config::settings::{GoogleIdentity, ServiceAccount};
use crate::support::secret::Secret;
use crate::tls::RsaSigner;

/// The metadata server, and the path of tokens there.
const MACHINE: &str = "metadata.google.internal";
const MACHINE_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

pub(super) fn google(table: &Table<'_>, network: Option<&Network>) -> Read<GoogleIdentity> {
    let Some(text) = table.optional("credentials", document())? else {
        let host = table.environment().get("GCE_METADATA_HOST").filter(|host| !host.is_empty());
        let text = format!("http://{}", host.map_or(MACHINE, String::as_str));
        let variable = host.map(|_| "GCE_METADATA_HOST");
        let place = Place { key: "credentials", variable, text: &text, rest: MACHINE_PATH, is_machine: true };
        return Ok(GoogleIdentity { endpoint: endpoint(table, network, &place)?, account: None });
    };
    let mistake = |reason: String| table.mistake("credentials", reason);
    let json: Value = serde_json::from_str(text.expose())
        .map_err(|_| mistake("are not JSON: write the file of a service account's key".to_owned()))?;
    let field = |name: &str| json.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match field("type") {
        Some("service_account") => {}
        Some(kind) if kind.len() < 40 => {
            return Err(mistake(format!("are of the type {kind:?}: only \"service_account\" is possible")));
        }
        _ => return Err(mistake("have no type: write the file of a service account's key".to_owned())),
    }
    let needed = |name: &str| field(name).ok_or_else(|| mistake(format!("have no {name}")));
    let (email, key) = (needed("client_email")?, needed("private_key")?);
    let private_key = Secret::new(key.to_owned());
    RsaSigner::of_pem(&private_key).map_err(|reason| mistake(format!("have a private_key that {reason}")))?;
    let text = field("token_uri").unwrap_or(TOKEN_URI);
    let place = Place { key: "credentials", variable: None, text, rest: "", is_machine: false };
    let account = ServiceAccount {
        email: email.to_owned(),
        key_id: field("private_key_id").map(str::to_owned),
        private_key,
    };
    Ok(GoogleIdentity { endpoint: endpoint(table, network, &place)?, account: Some(account) })
}
