//! Credentials of IAM: from the environment, by web identity, from a container's endpoint, or from
//! the machine's metadata address
//! (docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html).

use std::time::Duration;

use http::{HeaderValue, Method};
use jiff::Timestamp;
use serde_json::Value;

use super::super::entra::token_file;
use super::super::exchange::{Exchange, Failure, TokenRequest};
use super::super::reply;
use crate::config::{AwsSource, ContainerToken};
use crate::support::secret::Secret;

/// The life of a session with the metadata address, in seconds.
const SESSION: HeaderValue = HeaderValue::from_static("21600");

/// The paths of the metadata address (IMDSv2).
const SESSION_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";

/// The longest name of a role, in bytes.
const MAX_ROLE: usize = 256;

/// Credentials of IAM.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) session_token: Option<Secret>,
    /// `None`: they do not expire.
    pub(super) expires: Option<Timestamp>,
}

impl Credentials {
    /// The rest of their life.
    pub(super) fn life(&self, now: Timestamp) -> Result<Option<Duration>, Failure> {
        let seconds = self.expires.map(|expires| expires.as_second() - now.as_second());
        seconds.map(reply::life_of).transpose()
    }
}

/// Gets the credentials. `exchange` is the one of the source's endpoint, if it has one.
pub(super) async fn get(source: &AwsSource, exchange: Option<&Exchange<'_>>) -> Result<Credentials, Failure> {
    if let AwsSource::Keys { access_key, secret_key, session_token } = source {
        return Ok(Credentials {
            access_key: access_key.clone(),
            secret_key: secret_key.clone(),
            session_token: session_token.clone(),
            expires: None,
        });
    }
    let exchange = exchange.ok_or_else(|| Failure::new("there is no way to the endpoint"))?;
    match source {
        AwsSource::WebIdentity { endpoint, role, session, token_file: path } => {
            let token = token_file(path)?;
            let request = TokenRequest::form(
                &*endpoint.target,
                [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                    ("WebIdentityToken", &token),
                ],
            );
            let body = exchange.send(request.for_xml(), &[&token]).await?;
            of_xml(&String::from_utf8_lossy(&body))
        }
        AwsSource::Container { endpoint, authorization } => {
            let token = match authorization {
                None => None,
                Some(ContainerToken::Text(token)) => Some(token.clone()),
                Some(ContainerToken::File(path)) => Some(Secret::new(token_file(path)?)),
            };
            let mut request = TokenRequest::get(&*endpoint.target);
            if let Some(token) = &token {
                request = request.with_secret("authorization", token)?;
            }
            let secrets: Vec<_> = token.iter().map(Secret::expose).collect();
            of_json(&exchange.send(request, &secrets).await?, "Token")
        }
        AwsSource::Machine { .. } => machine(exchange).await,
        AwsSource::Keys { .. } => Err(Failure::new("keys need no request")),
    }
}

/// The credentials of the role of this machine, in a session of the metadata address.
async fn machine(exchange: &Exchange<'_>) -> Result<Credentials, Failure> {
    let path = |path: &str| format!("{}{path}", exchange.endpoint.target.trim_end_matches('/'));
    let begin = TokenRequest { method: Method::PUT, ..TokenRequest::get(path(SESSION_PATH)) };
    let begin = begin.with("x-aws-ec2-metadata-token-ttl-seconds", SESSION);
    let session = Secret::new(one_line(&exchange.send(begin, &[]).await?)?);
    let get = |target: String| TokenRequest::get(target).with_secret("x-aws-ec2-metadata-token", &session);
    let secrets = [session.expose()];
    let role = one_line(&exchange.send(get(path(ROLES_PATH))?, &secrets).await?)?;
    let is_role = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if role.len() > MAX_ROLE || !role.bytes().all(is_role) {
        return Err(Failure::new("the metadata address names no valid role"));
    }
    of_json(&exchange.send(get(path(&format!("{ROLES_PATH}{role}")))?, &secrets).await?, "Token")
}

/// The first line of a response.
fn one_line(body: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(body).ok().and_then(|text| text.lines().next()).map(str::trim);
    match text {
        Some(line) if !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(line.to_owned())
        }
        _ => Err(Failure::new("the response of the metadata address is not one line of text")),
    }
}

/// Credentials in JSON, as the endpoints of containers and machines send them.
fn of_json(body: &[u8], token: &str) -> Result<Credentials, Failure> {
    let json = reply::object(body)?;
    if let Some(code) = json.get("Code").and_then(Value::as_str).filter(|code| *code != "Success") {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        return Err(Failure::new(format!("the endpoint has no credentials: {code}")));
    }
    Ok(Credentials {
        access_key: reply::text(&json, "AccessKeyId")?.expose().to_owned(),
        secret_key: reply::text(&json, "SecretAccessKey")?,
        session_token: Some(reply::text(&json, token)?),
        expires: expiration(json.get("Expiration").and_then(Value::as_str))?,
    })
}

/// Credentials in the XML of STS. Their characters are never escaped there.
fn of_xml(text: &str) -> Result<Credentials, Failure> {
    let inside = |name: &str| {
        let (_, after) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = after.split_once(&format!("</{name}>"))?;
        let value = value.trim();
        let is_text = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<');
        is_text.then(|| value.to_owned())
    };
    let needed =
        |name: &str| inside(name).ok_or_else(|| Failure::new(format!("the response has no valid {name}")));
    Ok(Credentials {
        access_key: needed("AccessKeyId")?,
        secret_key: Secret::new(needed("SecretAccessKey")?),
        session_token: Some(Secret::new(needed("SessionToken")?)),
        expires: expiration(inside("Expiration").as_deref())?,
    })
}

fn expiration(text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let expires = text.map(str::parse).transpose();
    expires.map_err(|_| Failure::new("the response has no valid Expiration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"s+/=","Token":"t","Expiration":"2026-12-01T06:00:00Z"}"#;

    #[test]
    fn credentials_are_read_from_both_forms() {
        let xml = "<R><Credentials><SessionToken>t</SessionToken><SecretAccessKey>s+/=</SecretAccessKey>\n<Expiration>2026-12-01T06:00:00Z</Expiration><AccessKeyId>ASIA</AccessKeyId></Credentials></R>";
        let now: Timestamp = "2026-12-01T05:00:00Z".parse().unwrap();
        for read in [of_json(JSON.as_bytes(), "Token"), of_xml(xml)] {
            let read = read.unwrap();
            assert_eq!((read.access_key.as_str(), read.secret_key.expose()), ("ASIA", "s+/="));
            assert_eq!(read.session_token.as_ref().map(Secret::expose), Some("t"));
            assert_eq!(read.life(now), Ok(Some(Duration::from_secs(3600))));
            assert!(read.life("2026-12-01T06:00:00Z".parse().unwrap()).is_err(), "they have expired");
        }
    }

    #[test]
    fn response_without_credentials_is_refused_unseen() {
        let code = JSON.replace("Success", "AssumeRoleUnauthorizedAccess\\n");
        for (body, reason) in [
            ("<html>", "the response is no JSON object"),
            (&*code, "the endpoint has no credentials: AssumeRoleUnauthorizedAccess"),
            (&JSON.replace("\"t\"", "\"\""), "the response has no valid Token"),
            (&JSON.replace("2026-12-01", "soon"), "the response has no valid Expiration"),
        ] {
            assert_eq!(of_json(body.as_bytes(), "Token").unwrap_err().reason, reason);
        }
        assert_eq!(of_xml("<html>").unwrap_err().reason, "the response has no valid AccessKeyId");
        assert!(one_line(b"a b").is_err() && one_line(b"").is_err() && one_line(b"role\nnext").is_ok());
    }
}
