//! `tls` of servers and clients: certificates and keys are read here once, so that every mistake in
//! them is found before anything runs.

use std::time::SystemTime;

use super::kind::{Kind, Shape, boolean, choice};
use super::notes::{Noted, Read};
use super::reader::{Entry, Table, all};
use super::secrets::{from_variable, secret, source};
use crate::tls::{
    Authorities, ClientCertificates, ClientSettings, Fault, Identity, IdentitySource, ServerSettings, Source,
    TlsPart, Verification,
};

/// The keys that locate a PEM text.
const FORMS: &[&str] = &["env", "file", "data"];

const ADVICE: &str =
    "write { file = \"PATH\" } or { env = \"NAME\" }, or { data = \"...\" } with the base64 of the PEM";

/// The key that adds a table's authorities to those of the system.
pub(super) const ADDS: &str = "ca_adds_to_system";

/// The keys of a client certificate: any of them requires the others that it needs.
const IDENTITY: [&str; 3] = ["certificate", "private_key", "passphrase"];

/// The keys of one client table, before the defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsKeys {
    verification: Option<Verification>,
    /// A certificate and its private key go together, so both come from one table.
    identity: Option<IdentitySource>,
    /// Empty if the key is missing.
    ca: Vec<Source>,
    ca_adds_to_system: Option<bool>,
}

impl TlsKeys {
    /// Returns true if there is a client certificate.
    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// Takes each missing key from `other`.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            verification: self.verification.or(other.verification),
            identity: self.identity.or_else(|| other.identity.clone()),
            ca: if self.ca.is_empty() { other.ca.clone() } else { self.ca },
            ca_adds_to_system: self.ca_adds_to_system.or(other.ca_adds_to_system),
        }
    }

    /// The settings with their defaults; `adds` is the key [`ADDS`], if it is there.
    pub(super) fn settings(self, adds: Option<Entry<'_>>) -> Read<ClientSettings> {
        if self.ca_adds_to_system == Some(true)
            && self.ca.is_empty()
            && let Some(entry) = adds
        {
            let reason = "adds nothing to the system's authorities: write ca = { file = \"PATH\" } too";
            return Err(entry.mistake(reason));
        }
        Ok(ClientSettings {
            verification: self.verification.unwrap_or_default(),
            identity: self.identity,
            ca: self.ca,
            ca_adds_to_system: self.ca_adds_to_system.unwrap_or_default(),
        })
    }
}

/// `tls` of an upstream or a host.
pub(super) fn client(table: &Table<'_>) -> Read<TlsKeys> {
    let identity = identity_keys(table);
    let trust = trust(table);
    Ok(TlsKeys { identity: identity?, ..trust? })
}

/// A certificate with its private key among the keys of another table, if they are there.
pub(super) fn identity_keys(table: &Table<'_>) -> Read<Option<IdentitySource>> {
    identity(table, IDENTITY.iter().any(|key| table.at(&[key]).is_some()))
}

/// `tls` of a peer without another table that provides keys.
pub(super) fn client_settings(table: &Table<'_>) -> Read<ClientSettings> {
    client(table)?.settings(table.at(&[ADDS]))
}

/// The verification of a server's certificate: the keys that upstreams, hosts and forward proxies
/// have in common.
pub(super) fn trust(table: &Table<'_>) -> Read<TlsKeys> {
    const MODES: &[(&str, Verification)] = &[
        ("full", Verification::Full),
        ("certificate", Verification::Certificate),
        ("none", Verification::None),
    ];
    let verification = table.optional("verification_mode", choice(MODES).default("full"));
    let ca = authorities(table, "ca");
    let adds = table.optional(ADDS, boolean().default(false));
    if let Ok(Some(Verification::None)) = verification {
        let reason = "nothing of the certificate is verified: an attacker on the network can read and change everything that \
                      is sent, keys included";
        table.warning("verification_mode", reason);
        if ca.as_ref().is_ok_and(|ca| !ca.is_empty()) {
            table.warning("ca", "is not used: verification_mode is \"none\"");
        }
    }
    Ok(TlsKeys { verification: verification?, identity: None, ca: ca?, ca_adds_to_system: adds? })
}

/// Returns true if an upstream's table has a key of a client certificate, valid or not.
pub(super) fn has_identity(upstream: &Table<'_>) -> bool {
    IDENTITY.iter().any(|key| upstream.at(&["tls", key]).is_some())
}

/// `[server.tls]` and `[admin.tls]`.
pub(super) fn server(table: &Table<'_>) -> Read<ServerSettings> {
    const CERTIFICATES: &[(&str, ClientCertificates)] =
        &[("optional", ClientCertificates::Optional), ("required", ClientCertificates::Required)];
    let identity = identity(table, true);
    let client_ca = authorities(table, "client_ca");
    let certificates = choice(CERTIFICATES).default("required").then(|entry, certificates| {
        if client_ca.as_ref().is_ok_and(Vec::is_empty) && table.at(&["client_certificates"]).is_some() {
            let reason =
                "has no effect without client_ca: write client_ca = { file = \"PATH\" } with who signs them";
            return Err(entry.mistake(reason));
        }
        Ok(certificates)
    });
    let certificates = table.or_default("client_certificates", certificates);
    let (identity, client_ca, client_certificates) = (identity?, client_ca?, certificates?);
    let identity = identity.ok_or_else(|| table.mistake("certificate", "is missing"))?;
    Ok(ServerSettings { identity, client_ca, client_certificates })
}

/// A certificate with its private key. `None` if both are missing and not `needed`.
fn identity(table: &Table<'_>, needed: bool) -> Read<Option<IdentitySource>> {
    let certificate = table.optional("certificate", pem());
    let private_key = table.optional("private_key", pem());
    let passphrase = table.optional("passphrase", secret());
    if !needed {
        return Ok(None);
    }
    let certificate = both(certificate, table, "certificate", "private_key");
    let private_key = both(private_key, table, "private_key", "certificate");
    let source =
        IdentitySource { certificate: certificate?, private_key: private_key?, passphrase: passphrase? };
    let identity = Identity::read(&source).map_err(|fault| note(table, &fault))?;
    if let Some(reason) = identity.facts.and_then(|facts| facts.untimely(SystemTime::now())) {
        table.warning("certificate", &reason);
    }
    if identity.passphrase_unused {
        table.warning("passphrase", "is not used: the private key is not encrypted");
    }
    Ok(Some(source))
}

fn both(value: Read<Option<Source>>, table: &Table<'_>, key: &'static str, other: &str) -> Read<Source> {
    value?.ok_or_else(|| {
        let found = IDENTITY.iter().find(|found| **found != key && table.at(&[found]).is_some());
        let found = found.map_or_else(|| other.to_owned(), |found| format!("{found}, which is there,"));
        table.mistake(key, format!("is missing, and {found} has no effect without it: {ADVICE}"))
    })
}

fn note(table: &Table<'_>, fault: &Fault) -> Noted {
    table.mistake(fault.part.key(), fault.reason.clone())
}

/// One source, or a list of them; empty if the key is missing.
fn authorities(table: &Table<'_>, key: &'static str) -> Read<Vec<Source>> {
    let shape = Shape::AnyOf(vec![pem().shape, Shape::List(Box::new(pem().shape))]);
    let Some(entry) = table.entry(key, shape) else { return Ok(Vec::new()) };
    let sources = if entry.is_array() { all(entry.items()?.iter().map(read))? } else { vec![read(&entry)?] };
    if sources.is_empty() {
        return Err(entry.mistake(format!("is an empty list: {ADVICE}, or remove the key")));
    }
    match Authorities::read(&sources) {
        Ok(_) => Ok(sources),
        Err(Fault { part: TlsPart::Ca, reason }) => Err(entry.mistake(reason)),
        Err(fault) => Err(entry.mistake(fault.to_string())),
    }
}

/// The place of a PEM text. Relative paths refer to the directory of the file.
fn pem() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Source>> {
    Kind::new(Shape::Source("PEM text", FORMS), read)
}

fn read(entry: &Entry<'_>) -> Read<Source> {
    // The text itself may be a key, so the message does not show it.
    let not_a_table = || format!("is a table that says where the PEM is: {ADVICE}");
    match source(entry, "the PEM", FORMS, ADVICE, not_a_table)? {
        ("file", form, path) => Ok(Source::File(form.folder().join(path))),
        ("env", form, name) => {
            let value = from_variable(&form, &name)?;
            Source::text(&format!("the variable {name}"), &value)
                .map_err(|reason| form.mistake(format!("the variable {name} {reason}")))
        }
        (_, form, data) => Source::text("the data", &data).map_err(|reason| form.mistake(reason)),
    }
}
