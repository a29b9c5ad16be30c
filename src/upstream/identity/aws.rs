//! Short-term keys of Amazon Bedrock
//! (docs.aws.amazon.com/bedrock/latest/userguide/api-keys-generate.html): a presigned URL in
//! base64, made here from credentials of IAM, without a request.

mod credentials;
mod sigv4;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::exchange::{Exchange, Failure};
use super::token::Issued;
use crate::config::{AwsIdentity, AwsSource};
use crate::support::secret::Secret;
use credentials::Credentials;
use sigv4::Signing;

/// The host of the presigned URL, whatever the host of the requests is.
const HOST: &str = "bedrock.amazonaws.com";

const SERVICE: &str = "bedrock";

/// The beginning of every key, and the end of every presigned URL.
const PREFIX: &str = "bedrock-api-key-";
const VERSION: &str = "&Version=1";

/// The longest life of a key: 12 hours.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// The life of credentials from an endpoint that does not tell it.
const UNTOLD_LIFE: Duration = Duration::from_secs(60 * 60);

/// The time after which a key is made again, so that a role's change takes effect.
const REFRESH: Duration = Duration::from_secs(60 * 60);

/// Makes a key, after a request for credentials if they have to be requested.
pub(super) async fn issue(
    identity: &AwsIdentity,
    exchange: Option<&Exchange<'_>>,
    now: Timestamp,
) -> Result<Issued, Failure> {
    let credentials = credentials::get(&identity.source, exchange).await?;
    let rest = credentials.life(now)?.unwrap_or(match identity.source {
        AwsSource::Keys { .. } => LIFE,
        _ => UNTOLD_LIFE,
    });
    let text = key(&credentials, &identity.region, now);
    Ok(Issued { text, life: rest.min(LIFE), refresh_in: Some(REFRESH.min(rest / 2)) })
}

/// The key of these credentials for a region.
fn key(credentials: &Credentials, region: &str, now: Timestamp) -> Secret {
    let date = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let life = LIFE.as_secs();
    let signing = Signing { access_key: &credentials.access_key, region, service: SERVICE, date: &date };
    let mut query = format!(
        "Action=CallWithBearerToken&X-Amz-Algorithm={}&X-Amz-Credential={}&X-Amz-Date={date}&X-Amz-Expires={life}&X-Amz-SignedHeaders=host",
        sigv4::ALGORITHM,
        sigv4::encoded(&signing.credential()),
    );
    if let Some(token) = &credentials.session_token {
        query.push_str("&X-Amz-Security-Token=");
        query.push_str(&sigv4::encoded(token.expose()));
    }
    let headers = [("host", HOST)];
    let payload = sigv4::hash(b"");
    let canonical = sigv4::canonical_request("POST", "/", &query, &headers, &payload);
    let signature = signing.signature(&credentials.secret_key, &canonical);
    let url = format!("{HOST}/?{query}&X-Amz-Signature={signature}{VERSION}");
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of aws-bedrock-token-generator 1.1.0 with botocore's clock at this time.
    #[test]
    fn key_is_a_presigned_url_in_base64() {
        let now: Timestamp = "2026-12-01T02:03:04.5Z".parse().unwrap();
        let secret = |text: &str| Secret::new(text.to_owned());
        let mut credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            expires: None,
        };
        let decoded = |credentials: &Credentials| {
            let key = key(credentials, "us-east-1", now);
            let url = STANDARD.decode(key.expose().strip_prefix(PREFIX).unwrap()).unwrap();
            String::from_utf8(url).unwrap()
        };
        let plain = decoded(&credentials);
        let begin = "bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261201%2Fus-east-1%2Fbedrock%2Faws4_request&X-Amz-Date=20261201T020304Z&X-Amz-Expires=43200&X-Amz-SignedHeaders=host";
        let (start, signature) = plain.split_once("&X-Amz-Signature=").unwrap();
        assert_eq!(start, begin);
        assert_eq!(signature, "f1a6505a8e9d29d85b4ac9d7e5061eb1f19b01c90efe9b292155cec4db2c5963&Version=1");
        credentials.session_token = Some(secret("IQoJb3+/=="));
        let with_token = decoded(&credentials);
        let (start, signature) = with_token.split_once("&X-Amz-Signature=").unwrap();
        assert_eq!(start, format!("{begin}&X-Amz-Security-Token=IQoJb3%2B%2F%3D%3D"));
        assert_eq!(signature, "602d225d1b2255c2d03a13ad5d687d806f632d07dce961d237888e42258d3ca4&Version=1");
    }
}
