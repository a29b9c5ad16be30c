//! `[upstreams.NAME.tls]` and `[server.tls]`: certificates and keys are read once here, so that all
//! that is wrong with them is found before anything runs.

use std::time::SystemTime;

use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::{from_variable, secret};
use crate::tls::{
    Authorities, ClientCertificates, ClientSettings, Fault, Identity, IdentitySource, Part, ServerSettings,
    Source, Verification,
};

/// The ways to say where a certificate or key is.
const FORMS: &str =
    "write { file = \"PATH\" } or { env = \"NAME\" }, or { data = \"...\" } with the base64 of the PEM";

/// The key that says that a table's authorities come on top.
pub(super) const ADDS: &str = "ca_adds_to_system";

/// The keys of a client certificate: any of them means all that it needs.
const IDENTITY: [&str; 3] = ["certificate", "private_key", "passphrase"];

/// What one table says, and what it leaves to others.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    verification: Option<Verification>,
    /// A certificate and its key go together: those of two tables would not.
    identity: Option<IdentitySource>,
    /// Empty where nothing is said.
    ca: Vec<Source>,
    ca_adds_to_system: Option<bool>,
}

impl Said {
    /// Whether there is a client certificate.
    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// What is not said here is what `other` says.
    pub(super) fn or(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            verification: self.verification.or(other.verification),
            identity: self.identity.or_else(|| other.identity.clone()),
            ca: if self.ca.is_empty() { other.ca.clone() } else { self.ca },
            ca_adds_to_system: self.ca_adds_to_system.or(other.ca_adds_to_system),
        }
    }

    /// What is not said at all is the default; `at` is where the last word on all of it together
    /// was said.
    pub(super) fn settings(self, at: Option<Entry<'_>>) -> Read<ClientSettings> {
        if self.ca_adds_to_system == Some(true)
            && self.ca.is_empty()
            && let Some(entry) = at
        {
            return Err(
                entry.mistake("adds nothing to the system's authorities: write ca = { file = \"PATH\" } too")
            );
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
pub(super) fn client(table: &Table<'_>) -> Read<Said> {
    let identity = identity(table, IDENTITY.iter().any(|key| table.at(&[key]).is_some()));
    let trust = trust(table);
    Ok(Said { identity: identity?, ..trust? })
}

/// What a server's certificate is held to: the keys that an upstream, a host and a proxy have in
/// common.
pub(super) fn trust(table: &Table<'_>) -> Read<Said> {
    let verification = table.optional("verification_mode", |entry| {
        entry.parse(MODES, |text| Verification::parse(text).ok_or_else(|| format!("{text:?} is not {MODES}")))
    });
    let ca = authorities(table, "ca");
    let adds = table.optional(ADDS, Entry::boolean);
    if let Ok(Some(Verification::None)) = verification {
        let reason = "nothing of the certificate is verified: anybody in between can read and change all that is sent, keys included";
        table.warning("verification_mode", reason);
        if ca.as_ref().is_ok_and(|ca| !ca.is_empty()) {
            table.warning("ca", "is not used: verification_mode is \"none\"");
        }
    }
    Ok(Said { verification: verification?, identity: None, ca: ca?, ca_adds_to_system: adds? })
}

/// Whether an upstream's table speaks of a client certificate, be it wrong.
pub(super) fn has_identity(upstream: &Table<'_>) -> bool {
    IDENTITY.iter().any(|key| upstream.at(&["tls", key]).is_some())
}

const MODES: &str = "\"full\", \"certificate\" or \"none\"";

/// `[server.tls]`, where it is written.
pub(super) fn server(table: &Table<'_>) -> Read<ServerSettings> {
    let identity = identity(table, true);
    let client_ca = authorities(table, "client_ca");
    let certificates = table.optional("client_certificates", |entry| {
        let certificates = entry.parse(CERTIFICATES, |text| match text {
            "optional" => Ok(ClientCertificates::Optional),
            "required" => Ok(ClientCertificates::Required),
            _ => Err(format!("{text:?} is not {CERTIFICATES}")),
        })?;
        if client_ca.as_ref().is_ok_and(Vec::is_empty) {
            return Err(entry.mistake(
                "says nothing without client_ca: write client_ca = { file = \"PATH\" } with who signs them",
            ));
        }
        Ok(certificates)
    });
    let (identity, client_ca, certificates) = (identity?, client_ca?, certificates?);
    Ok(ServerSettings {
        identity: identity.ok_or_else(|| table.mistake("certificate", "is missing"))?,
        client_ca,
        client_certificates: certificates.unwrap_or(ClientCertificates::Required),
    })
}

const CERTIFICATES: &str = "\"optional\" or \"required\"";

/// A certificate with its key; both or, where it is not `needed`, neither.
fn identity(table: &Table<'_>, needed: bool) -> Read<Option<IdentitySource>> {
    let certificate = table.optional("certificate", source);
    let private_key = table.optional("private_key", source);
    let passphrase = table.optional("passphrase", secret);
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
        table.mistake(key, format!("is missing, and {found} is of no use without it: {FORMS}"))
    })
}

fn note(table: &Table<'_>, fault: &Fault) -> super::notes::Noted {
    table.mistake(fault.part.key(), fault.reason.clone())
}

/// One source, or a list of them; none where the key is missing.
fn authorities(table: &Table<'_>, key: &'static str) -> Read<Vec<Source>> {
    let Some(entry) = table.get(key) else { return Ok(Vec::new()) };
    let sources =
        if entry.is_array() { all(entry.items()?.iter().map(source))? } else { vec![source(&entry)?] };
    if sources.is_empty() {
        return Err(entry.mistake(format!("is an empty list: {FORMS}, or leave it out")));
    }
    match Authorities::read(&sources) {
        Ok(_) => Ok(sources),
        Err(Fault { part: Part::Ca, reason }) => Err(entry.mistake(reason)),
        Err(fault) => Err(entry.mistake(fault.to_string())),
    }
}

/// Where a PEM text is. Relative paths begin at the folder of the file.
fn source(entry: &Entry<'_>) -> Read<Source> {
    let Some(said) = entry.last_layer() else {
        // The text itself may be a key, so it is not shown.
        return Err(entry.mistake(format!("is a table that says where the PEM is: {FORMS}")));
    };
    let mut forms = Vec::new();
    for (key, form) in &said {
        if matches!(*key, "env" | "file" | "data") {
            form.known();
            forms.push((*key, form));
        } else {
            form.unknown();
        }
    }
    let [(key, form)] = forms.as_slice() else {
        let keys: Vec<_> = forms.iter().map(|(key, _)| *key).collect();
        return Err(entry.mistake(if keys.is_empty() {
            format!("does not say where the PEM is: {FORMS}")
        } else {
            format!("says {} at once: keep one of them", keys.join(" and "))
        }));
    };
    let text = form.text()?;
    match *key {
        "file" if text.is_empty() => Err(form.mistake("names no file")),
        "file" => Ok(Source::File(form.folder().join(text))),
        "env" => {
            let value = from_variable(form, text)?;
            Source::text(&format!("the variable {text}"), &value)
                .map_err(|reason| form.mistake(format!("the variable {text} {reason}")))
        }
        _ if text.is_empty() => Err(form.mistake("is empty")),
        _ => Source::text("the data", text).map_err(|reason| form.mistake(reason)),
    }
}
