//! Tokens of Microsoft Entra ID
//! (learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow) and of the
//! endpoints for managed identities
//! (learn.microsoft.com/entra/identity/managed-identities-azure-resources,
//! learn.microsoft.com/azure/app-service/overview-managed-identity).

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use serde_json::json;
use uuid::Uuid;

use super::exchange::{Exchange, Failure, TokenRequest, base64url};
use super::token::Issued;
use super::{jwt, reply};
use crate::config::{EntraGrant, EntraIdentity};
use crate::support::whole_file;
use crate::tls::Identity;

/// The kind of `client_assertion` (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The life of an assertion, in seconds.
const ASSERTION_LIFE: i64 = 600;

/// The versions of the endpoints for managed identities.
const MACHINE_VERSION: &str = "2018-02-01";
const SERVICE_VERSION: &str = "2019-08-01";

/// The largest token file, in bytes.
const MAX_TOKEN_FILE: usize = 64 << 10;

/// The text of a token file, which is not empty.
///
/// # Errors
/// Fails if the file cannot be read. The message has its path.
pub(super) fn token_file(path: &Path) -> Result<String, Failure> {
    let failure = |reason: String| Failure::new(format!("{}: {reason}", path.display()));
    let bytes = whole_file::read_regular(path, MAX_TOKEN_FILE).map_err(|error| failure(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| failure("is not text".to_owned()))?;
    match text.trim() {
        "" => Err(failure("is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

/// Requests a token. `now` is in seconds since 1970.
pub(super) async fn issue(
    identity: &EntraIdentity,
    exchange: &Exchange<'_>,
    now: i64,
) -> Result<Issued, Failure> {
    let (request, secret) = request(identity, now)?;
    let body = exchange.send(request, &[&secret]).await?;
    reply::token(&body, now)
}

/// The request, and the secret in it.
fn request(identity: &EntraIdentity, now: i64) -> Result<(TokenRequest, String), Failure> {
    let EntraIdentity { endpoint, scope, grant } = identity;
    let by_assertion = |client: &str, assertion: String| {
        let fields = [
            ("client_id", client),
            ("scope", scope),
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
        ];
        (TokenRequest::form(&*endpoint.target, fields), assertion)
    };
    Ok(match grant {
        EntraGrant::Secret { client, secret } => {
            let fields = [
                ("client_id", &**client),
                ("scope", scope),
                ("grant_type", "client_credentials"),
                ("client_secret", secret.expose()),
            ];
            (TokenRequest::form(&*endpoint.target, fields), secret.expose().to_owned())
        }
        EntraGrant::Certificate { client, source } => {
            let read = Identity::read(source).map_err(|fault| Failure::new(fault.to_string()))?;
            let audience = format!("{}{}", endpoint.url, endpoint.target);
            by_assertion(client, assertion(&read, client, &audience, now)?)
        }
        EntraGrant::Workload { client, token_file: path } => by_assertion(client, token_file(path)?),
        EntraGrant::Machine { client } => {
            let target = managed(&endpoint.target, MACHINE_VERSION, scope, client.as_deref());
            (TokenRequest::get(target).with("metadata", HeaderValue::from_static("true")), String::new())
        }
        EntraGrant::Service { client, header } => {
            let target = managed(&endpoint.target, SERVICE_VERSION, scope, client.as_deref());
            let request = TokenRequest::get(target).with("metadata", HeaderValue::from_static("true"));
            let request = request.with_secret("x-identity-header", header)?;
            (request, header.expose().to_owned())
        }
    })
}

/// The target at an endpoint for managed identities, which takes a resource in place of a scope.
fn managed(path: &str, version: &str, scope: &str, client: Option<&str>) -> String {
    let resource = scope.strip_suffix("/.default").unwrap_or(scope);
    let mut query = form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
    query.append_pair("api-version", version).append_pair("resource", resource);
    if let Some(client) = client {
        query.append_pair("client_id", client);
    }
    query.finish()
}

/// The assertion of a certificate
/// (learn.microsoft.com/entra/identity-platform/certificate-credentials).
fn assertion(identity: &Identity, client: &str, audience: &str, now: i64) -> Result<String, Failure> {
    let thumbprint = base64url(digest(&SHA256, identity.certificate_der()).as_ref());
    let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
    let claims = json!({
        "aud": audience,
        "iss": client,
        "sub": client,
        "jti": Uuid::now_v7(),
        "iat": now,
        "nbf": now,
        "exp": now + ASSERTION_LIFE,
    });
    let sign = |bytes: &[u8]| identity.sign_ps256(bytes).ok_or("private_key: cannot sign by PS256");
    jwt::signed(&header, &claims, sign).map_err(Failure::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_identity_is_asked_for_a_resource() {
        let scope = "https://cognitiveservices.azure.com/.default";
        assert_eq!(
            managed("/metadata/identity/oauth2/token", MACHINE_VERSION, scope, None),
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com"
        );
        assert_eq!(
            managed("/msi/token/", SERVICE_VERSION, "api://x/.default", Some("c-1")),
            "/msi/token/?api-version=2019-08-01&resource=api%3A%2F%2Fx&client_id=c-1"
        );
    }
}
