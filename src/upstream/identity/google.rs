//! Tokens of Google Cloud: by the key of a service account
//! (developers.google.com/identity/protocols/oauth2/service-account) or from the metadata server
//! (cloud.google.com/compute/docs/access/authenticate-workloads).

use http::HeaderValue;
use serde_json::{Value, json};

use super::exchange::{Exchange, Failure, TokenRequest};
use super::token::Issued;
use super::{jwt, reply};
use crate::config::{GoogleIdentity, ServiceAccount};
use crate::tls::RsaSigner;

/// The grant of an assertion (RFC 7523 section 2.1).
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The scope of all of Google Cloud; roles bound it.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The audience of assertions, whatever the `token_uri` is.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

/// The life of an assertion, in seconds.
const ASSERTION_LIFE: i64 = 3600;

/// Requests a token. `now` is in seconds since 1970.
pub(super) async fn issue(
    identity: &GoogleIdentity,
    exchange: &Exchange<'_>,
    now: i64,
) -> Result<Issued, Failure> {
    let target = &*identity.endpoint.target;
    let (request, secret) = match &identity.account {
        Some(account) => {
            let assertion = assertion(account, now)?;
            let fields = [("assertion", &*assertion), ("grant_type", GRANT)];
            (TokenRequest::form(target, fields), assertion)
        }
        None => {
            let scopes: String = form_urlencoded::byte_serialize(SCOPE.as_bytes()).collect();
            let request = TokenRequest::get(format!("{target}?scopes={scopes}"));
            (request.with("metadata-flavor", HeaderValue::from_static("Google")), String::new())
        }
    };
    let body = exchange.send(request, &[&secret]).await?;
    reply::token(&body, now)
}

fn assertion(account: &ServiceAccount, now: i64) -> Result<String, Failure> {
    let signer = RsaSigner::of_pem(&account.private_key);
    let signer = signer.map_err(|reason| Failure::new(format!("private_key of the credentials {reason}")))?;
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(key_id) = &account.key_id {
        header["kid"] = Value::from(key_id.as_str());
    }
    let claims = json!({
        "iss": account.email,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + ASSERTION_LIFE,
        "scope": SCOPE,
    });
    let sign = |bytes: &[u8]| signer.sign_rs256(bytes).ok_or("private_key of the credentials cannot sign");
    jwt::signed(&header, &claims, sign).map_err(Failure::new)
}
