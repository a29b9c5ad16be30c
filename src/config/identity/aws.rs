//! `aws` of an upstream. The credentials are those that AWS's SDKs find in the environment.

use std::path::PathBuf;

use super::{Place, endpoint};
use crate::config::kind::parsed;
use crate::config::network::Network;
use crate::config::notes::Read;
use crate::config::reader::Table;
use crate::config::secrets::unfit;
use crate::config::settings::{AwsIdentity, AwsSource, ContainerToken};
use crate::llm::provider::BaseUrl;
use crate::support::secret::Secret;

/// The variables that name an endpoint.
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const MACHINE_URL: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// The address of the machine's metadata.
const MACHINE: &str = "http://169.254.169.254";

/// The address of the endpoint of containers for relative URIs.
const CONTAINER: &str = "http://169.254.170.2";

/// `url`: the upstream's.
pub(super) fn aws(table: &Table<'_>, url: Option<&BaseUrl>, network: Option<&Network>) -> Read<AwsIdentity> {
    let variable = |name: &str| table.environment().get(name).filter(|value| !value.is_empty());
    let region =
        table.optional("region", parsed("region", Some("^[a-z0-9-]+$"), "a region in quotes", region))?;
    let region = match (region, variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))) {
        (Some(region), _) => region,
        (None, Some(text)) => region_of_variable(table, text)?,
        (None, None) => {
            let reason = "is missing: write the region, such as \"us-east-1\", or set AWS_REGION";
            return Err(table.mistake("region", reason));
        }
    };
    if let Some(other) = url.and_then(|url| region_of_host(url.host())).filter(|other| *other != region) {
        let reason = format!(
            "is {region:?}, and the url leads to {other:?}, where its keys are not valid: let both name one region"
        );
        return Err(table.mistake("region", reason));
    }
    let source = source(table, network, &region)?;
    Ok(AwsIdentity { region, source })
}

/// The first source that the environment has what it needs for.
fn source(table: &Table<'_>, network: Option<&Network>, region: &str) -> Read<AwsSource> {
    let variable = |name: &str| table.environment().get(name).filter(|value| !value.is_empty());
    let secret = |name: &'static str, text: &String| match unfit(text) {
        Some(reason) => Err(table.variable_mistake(name, reason.to_owned())),
        None => Ok(Secret::new(text.clone())),
    };
    let at = |variable: Option<&'static str>, text: &str, rest: &str, is_machine| {
        endpoint(table, network, &Place { key: "region", variable, text, rest, is_machine })
    };
    if let Some(access_key) = variable("AWS_ACCESS_KEY_ID") {
        let Some(text) = variable("AWS_SECRET_ACCESS_KEY") else {
            let reason = "is missing, and AWS_ACCESS_KEY_ID has no effect without it".to_owned();
            return Err(table.variable_mistake("AWS_SECRET_ACCESS_KEY", reason));
        };
        let token = variable("AWS_SESSION_TOKEN").map(|text| secret("AWS_SESSION_TOKEN", text));
        return Ok(AwsSource::Keys {
            access_key: secret("AWS_ACCESS_KEY_ID", access_key)?.expose().to_owned(),
            secret_key: secret("AWS_SECRET_ACCESS_KEY", text)?,
            session_token: token.transpose()?,
        });
    }
    if let Some(file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") {
        let Some(role) = variable("AWS_ROLE_ARN") else {
            let reason = "is missing, and AWS_WEB_IDENTITY_TOKEN_FILE has no effect without it".to_owned();
            return Err(table.variable_mistake("AWS_ROLE_ARN", reason));
        };
        let own = format!("https://sts.{region}.amazonaws.com/");
        const URL: &str = "AWS_ENDPOINT_URL_STS";
        let url = variable(URL).map_or(own.as_str(), String::as_str);
        let rest = if url.splitn(4, '/').count() < 4 { "/" } else { "" };
        return Ok(AwsSource::WebIdentity {
            endpoint: at(variable(URL).map(|_| URL), url, rest, false)?,
            role: role.clone(),
            session: variable("AWS_ROLE_SESSION_NAME").map_or("streamgauge", String::as_str).to_owned(),
            token_file: PathBuf::from(file),
        });
    }
    let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    if let Some(url) = relative.or_else(|| variable(FULL_URI)) {
        let file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
        let text = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let text = text.map(|text| secret("AWS_CONTAINER_AUTHORIZATION_TOKEN", text)).transpose()?;
        let authorization = file.map(ContainerToken::File).or(text.map(ContainerToken::Text));
        let endpoint = match relative {
            Some(path) => at(None, CONTAINER, path, true)?,
            None => at(Some(FULL_URI), url, "", true)?,
        };
        return Ok(AwsSource::Container { endpoint, authorization });
    }
    let url = variable(MACHINE_URL);
    let text = url.map_or(MACHINE, String::as_str).trim_end_matches('/');
    Ok(AwsSource::Machine { endpoint: at(url.map(|_| MACHINE_URL), text, "/", true)? })
}

/// The region that a host of Amazon Bedrock names, such as `bedrock-runtime.eu-west-1.amazonaws.com`.
fn region_of_host(host: &str) -> Option<&str> {
    const DOMAINS: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];
    let labels = DOMAINS.iter().find_map(|domain| host.strip_suffix(domain))?;
    labels.split('.').find(|label| {
        let parts: Vec<_> = label.split('-').collect();
        let is_number = |part: &&str| part.len() == 1 && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.len() >= 3 && parts[0].len() == 2 && parts.last().is_some_and(is_number)
    })
}

fn region(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.is_empty() && text.len() <= 32 && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no region: write one such as \"us-east-1\""))
}

fn region_of_variable(table: &Table<'_>, text: &str) -> Read<String> {
    region(text).map_err(|reason| table.variable_mistake("AWS_REGION", reason))
}
