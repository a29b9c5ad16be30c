//! `entra` of an upstream. Keys that are missing come from the variables of Azure's SDKs.

use std::path::PathBuf;
use std::time::SystemTime;

use super::{Place, endpoint};
use crate::config::kind::{Kind, Shape, choice, parsed};
use crate::config::network::Network;
use crate::config::notes::Read;
use crate::config::reader::{Entry, Table};
use crate::config::secrets::{secret, unfit};
use crate::config::settings::{EntraGrant, EntraIdentity};
use crate::config::tls;
use crate::support::secret::Secret;
use crate::tls::{Identity, IdentitySource, Source};

const AUTHORITY: &str = "https://login.microsoftonline.com";
const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

/// The address of the machine's metadata, and the path of tokens there.
const MACHINE: &str = "http://169.254.169.254";
const MACHINE_PATH: &str = "/metadata/identity/oauth2/token";

/// The names of tenants that stand for any tenant, at which a service has no identity.
const ANY_TENANT: [&str; 3] = ["common", "organizations", "consumers"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Auto,
    Secret,
    Certificate,
    Managed,
    Workload,
}

const BY: &[(&str, By)] = &[
    ("auto", By::Auto),
    ("client_secret", By::Secret),
    ("certificate", By::Certificate),
    ("managed_identity", By::Managed),
    ("workload_identity", By::Workload),
];

/// The keys of one proof each.
const OWN: [(&str, By); 4] = [
    ("secret", By::Secret),
    ("certificate", By::Certificate),
    ("private_key", By::Certificate),
    ("token_file", By::Workload),
];

pub(super) fn entra(table: &Table<'_>, network: Option<&Network>) -> Read<EntraIdentity> {
    let variable = |name: &str| table.environment().get(name).filter(|value| !value.is_empty());
    let by = table.or_default("by", choice(BY).default("auto"));
    let tenant = table.optional("tenant", name("tenant", tenant_fault));
    let client = table.optional("client", name("client", |_| None));
    let secret = table.optional("secret", secret());
    let certificate = tls::identity_keys(table);
    let token_file = table.optional("token_file", path());
    let scope = table.or_default("scope", parsed("scope", Some(SCOPES), SCOPE_FORM, scope).default(SCOPE));
    let authority = table.optional(
        "authority",
        parsed("URL", Some("^https?://.+$"), "a URL in quotes", |text| {
            Ok(text.trim_end_matches('/').to_owned())
        }),
    );
    let (by, tenant, client, secret) = (by?, tenant?, client?, secret?);
    let (certificate, token_file, scope, authority) = (certificate?, token_file?, scope?, authority?);

    let by = match by {
        By::Auto if token_file.is_some() || variable("AZURE_FEDERATED_TOKEN_FILE").is_some() => By::Workload,
        By::Auto if secret.is_some() || variable("AZURE_CLIENT_SECRET").is_some() => By::Secret,
        By::Auto if certificate.is_some() || variable("AZURE_CLIENT_CERTIFICATE_PATH").is_some() => {
            By::Certificate
        }
        By::Auto => By::Managed,
        by => by,
    };
    let word = BY.iter().find(|(_, known)| *known == by).map_or("", |(word, _)| word);
    if let Some((key, _)) = OWN.iter().find(|(key, of)| *of != by && table.at(&[key]).is_some()) {
        return Err(table.mistake(key, format!("has no effect by {word}: remove it, or change by")));
    }
    let client = client.or_else(|| variable("AZURE_CLIENT_ID").cloned());
    if by == By::Managed {
        return managed(table, network, scope, client);
    }
    let tenant = match tenant.or_else(|| variable("AZURE_TENANT_ID").cloned()) {
        Some(tenant) => tenant,
        None => {
            let reason = "is missing: write the id of the tenant, or set AZURE_TENANT_ID";
            return Err(table.mistake("tenant", reason));
        }
    };
    if let Some(reason) = tenant_fault(&tenant) {
        return Err(table.mistake("tenant", reason));
    }
    let missing = "is missing: write the application's (client) id, or set AZURE_CLIENT_ID";
    let client = client.ok_or_else(|| table.mistake("client", missing))?;
    let grant = match by {
        By::Secret => {
            let secret =
                secret.or_else(|| variable("AZURE_CLIENT_SECRET").map(|text| Secret::new(text.clone())));
            let missing = "is missing: write secret = { env = \"NAME\" }, or set AZURE_CLIENT_SECRET";
            EntraGrant::Secret { client, secret: secret.ok_or_else(|| table.mistake("secret", missing))? }
        }
        By::Certificate => {
            let from_variable = || {
                let file = Source::File(PathBuf::from(variable("AZURE_CLIENT_CERTIFICATE_PATH")?));
                let passphrase = variable("AZURE_CLIENT_CERTIFICATE_PASSWORD");
                let passphrase = passphrase.map(|text| Secret::new(text.clone()));
                Some(IdentitySource { certificate: file.clone(), private_key: file, passphrase })
            };
            let missing = "is missing: write certificate = { file = \"PATH\" } and private_key, or set AZURE_CLIENT_CERTIFICATE_PATH";
            let source = certificate.or_else(from_variable);
            let source = source.ok_or_else(|| table.mistake("certificate", missing))?;
            check_certificate(table, &source)?;
            EntraGrant::Certificate { client, source: Box::new(source) }
        }
        _ => {
            let file = token_file.or_else(|| variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from));
            let missing = "is missing: write the path of the token, or set AZURE_FEDERATED_TOKEN_FILE";
            EntraGrant::Workload {
                client,
                token_file: file.ok_or_else(|| table.mistake("token_file", missing))?,
            }
        }
    };
    let authority = authority.or_else(|| variable("AZURE_AUTHORITY_HOST").cloned());
    let authority = authority.unwrap_or_else(|| AUTHORITY.to_owned());
    let (text, rest) = (authority.trim_end_matches('/'), format!("/{tenant}/oauth2/v2.0/token"));
    let place = Place { key: "authority", variable: None, text, rest: &rest, is_machine: false };
    Ok(EntraIdentity { endpoint: endpoint(table, network, &place)?, scope, grant })
}

/// A managed identity: at the endpoint of App Service and Container Apps, or of the machine.
fn managed(
    table: &Table<'_>,
    network: Option<&Network>,
    scope: String,
    client: Option<String>,
) -> Read<EntraIdentity> {
    let variable = |name: &str| table.environment().get(name).filter(|value| !value.is_empty());
    let (text, variable, rest, grant) = match (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
        (Some(text), Some(header)) => {
            if let Some(reason) = unfit(header) {
                return Err(table.variable_mistake("IDENTITY_HEADER", reason.to_owned()));
            }
            let grant = EntraGrant::Service { client, header: Secret::new(header.clone()) };
            (text.as_str(), Some("IDENTITY_ENDPOINT"), "", grant)
        }
        _ => {
            const HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
            let named = variable(HOST);
            let host = named.map_or(MACHINE, String::as_str).trim_end_matches('/');
            (host, named.map(|_| HOST), MACHINE_PATH, EntraGrant::Machine { client })
        }
    };
    let place = Place { key: "by", variable, text, rest, is_machine: true };
    Ok(EntraIdentity { endpoint: endpoint(table, network, &place)?, scope, grant })
}

/// Reports a certificate that Entra ID refuses.
fn check_certificate(table: &Table<'_>, source: &IdentitySource) -> Read<()> {
    let identity =
        Identity::read(source).map_err(|fault| table.mistake(fault.part.key(), fault.reason.clone()))?;
    if !identity.is_rsa() {
        let reason = "is no RSA key: Entra ID verifies assertions by RSA keys only (PS256), so make a certificate with one";
        return Err(table.mistake("private_key", reason));
    }
    match identity.facts.and_then(|facts| facts.untimely(SystemTime::now())) {
        Some(reason) => Err(table.mistake("certificate", format!("{reason}: replace it"))),
        None => Ok(()),
    }
}

const SCOPES: &str = "^(https|api)://.+/\\.default$";
const SCOPE_FORM: &str = "a scope in quotes, such as \"https://cognitiveservices.azure.com/.default\"";

fn scope(text: &str) -> Result<String, String> {
    let resource = text.strip_suffix("/.default").unwrap_or_default();
    let name =
        resource.strip_prefix("https://").or_else(|| resource.strip_prefix("api://")).unwrap_or_default();
    if !name.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not the scope of a service: write {SCOPE_FORM}"))
}

fn tenant_fault(tenant: &str) -> Option<String> {
    if ANY_TENANT.contains(&tenant) {
        Some(format!(
            "{tenant:?} stands for any tenant, where this service has no identity: write the id of yours"
        ))
    } else if !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        Some(format!("{tenant:?} is neither an id nor a domain of a tenant"))
    } else {
        None
    }
}

/// An id in plain letters, digits and dashes, which `fault` may refuse.
fn name(what: &'static str, fault: fn(&str) -> Option<String>) -> Kind<impl Fn(&Entry<'_>) -> Read<String>> {
    parsed("id", Some("^.+$"), "an id in quotes", move |text| match fault(text) {
        Some(reason) => Err(reason),
        None if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(format!("{text:?} is no id of a {what}"))
        }
        None => Ok(text.to_owned()),
    })
}

/// A path, relative to the directory of the file.
fn path() -> Kind<impl Fn(&Entry<'_>) -> Read<PathBuf>> {
    Kind::new(Shape::Text("path", Some("^.+$")), |entry: &Entry<'_>| {
        match entry.text("a path in quotes")? {
            "" => Err(entry.mistake("names no file")),
            path => Ok(entry.folder().join(path)),
        }
    })
}
