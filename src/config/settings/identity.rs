//! `[upstreams.NAME.entra]`, `google` and `aws`: the identity that gets an upstream's tokens.

use std::path::PathBuf;

use super::ForwardProxy;
use crate::llm::provider::BaseUrl;
use crate::support::secret::Secret;
use crate::tls::{ClientSettings, IdentitySource};

/// The identity of a cloud whose tokens an upstream gets in place of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum CloudIdentity {
    Entra(EntraIdentity),
    Google(GoogleIdentity),
    Aws(AwsIdentity),
}

/// Microsoft Entra ID.
#[derive(Clone, Debug, PartialEq)]
pub struct EntraIdentity {
    pub endpoint: TokenEndpoint,
    /// Ends with `/.default`.
    pub scope: String,
    pub grant: EntraGrant,
}

/// The proof of an identity of Entra ID.
#[derive(Clone, Debug, PartialEq)]
pub enum EntraGrant {
    Secret {
        client: String,
        secret: Secret,
    },
    /// An RSA key and its certificate, which are read each time.
    Certificate {
        client: String,
        source: Box<IdentitySource>,
    },
    /// A file with a token, which is read each time.
    Workload {
        client: String,
        token_file: PathBuf,
    },
    /// The metadata address of the machine; `client` selects one of its identities.
    Machine {
        client: Option<String>,
    },
    /// The endpoint of App Service and Container Apps, with the value of `X-IDENTITY-HEADER`.
    Service {
        client: Option<String>,
        header: Secret,
    },
}

/// Google Cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct GoogleIdentity {
    pub endpoint: TokenEndpoint,
    /// `None`: the metadata server knows who asks.
    pub account: Option<ServiceAccount>,
}

/// The key of a service account.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceAccount {
    pub email: String,
    pub key_id: Option<String>,
    /// PEM of an RSA key.
    pub private_key: Secret,
}

/// Amazon Bedrock.
#[derive(Clone, Debug, PartialEq)]
pub struct AwsIdentity {
    pub region: String,
    pub source: AwsSource,
}

/// The place of credentials of AWS.
#[derive(Clone, Debug, PartialEq)]
pub enum AwsSource {
    Keys {
        access_key: String,
        secret_key: Secret,
        session_token: Option<Secret>,
    },
    /// The file with a token is read each time.
    WebIdentity {
        endpoint: TokenEndpoint,
        role: String,
        session: String,
        token_file: PathBuf,
    },
    Container {
        endpoint: TokenEndpoint,
        authorization: Option<ContainerToken>,
    },
    /// The metadata address of the machine (IMDSv2).
    Machine {
        endpoint: TokenEndpoint,
    },
}

/// The value of `Authorization` at the endpoint of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerToken {
    Text(Secret),
    /// A file that is read each time.
    File(PathBuf),
}

/// The place that issues tokens or credentials, and the way to it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEndpoint {
    /// The host; the path is in `target`.
    pub url: BaseUrl,
    /// The path, without a query.
    pub target: String,
    /// `None`: a direct connection.
    pub proxy: Option<ForwardProxy>,
    /// The default for an `http` URL.
    pub tls: ClientSettings,
    /// Belongs to the machine: no proxy leads to it, and it is near.
    pub is_machine: bool,
}

impl CloudIdentity {
    /// `None`: the credentials are known without a request.
    pub fn endpoint(&self) -> Option<&TokenEndpoint> {
        match self {
            Self::Entra(entra) => Some(&entra.endpoint),
            Self::Google(google) => Some(&google.endpoint),
            Self::Aws(aws) => match &aws.source {
                AwsSource::Keys { .. } => None,
                AwsSource::WebIdentity { endpoint, .. }
                | AwsSource::Container { endpoint, .. }
                | AwsSource::Machine { endpoint } => Some(endpoint),
            },
        }
    }

    /// The secrets that are sent to the endpoint or its proxy, or that sign.
    pub fn secrets(&self) -> Vec<&str> {
        let mut secrets: Vec<&Secret> = match self {
            Self::Entra(EntraIdentity { grant, .. }) => match grant {
                EntraGrant::Secret { secret, .. } => vec![secret],
                EntraGrant::Service { header, .. } => vec![header],
                _ => Vec::new(),
            },
            Self::Google(_) => Vec::new(),
            Self::Aws(AwsIdentity { source, .. }) => match source {
                AwsSource::Keys { secret_key, session_token, .. } => {
                    std::iter::once(secret_key).chain(session_token).collect()
                }
                AwsSource::Container { authorization: Some(ContainerToken::Text(token)), .. } => vec![token],
                _ => Vec::new(),
            },
        };
        let proxy = self.endpoint().and_then(|endpoint| endpoint.proxy.as_ref());
        secrets.extend(proxy.and_then(|proxy| proxy.credentials.as_ref()).map(|(_, password)| password));
        secrets.into_iter().map(Secret::expose).collect()
    }

    /// Its key in the configuration.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Entra(_) => "entra",
            Self::Google(_) => "google",
            Self::Aws(_) => "aws",
        }
    }

    /// The identity in one line, for people.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Entra(EntraIdentity { grant, .. }) => match grant {
                EntraGrant::Secret { .. } => "tokens of Entra ID by client secret",
                EntraGrant::Certificate { .. } => "tokens of Entra ID by certificate",
                EntraGrant::Workload { .. } => "tokens of Entra ID by workload identity",
                EntraGrant::Machine { .. } | EntraGrant::Service { .. } => {
                    "tokens of Entra ID by managed identity"
                }
            },
            Self::Google(google) if google.account.is_some() => "tokens of Google by service account",
            Self::Google(_) => "tokens of Google by the metadata server",
            Self::Aws(AwsIdentity { source, .. }) => match source {
                AwsSource::Keys { .. } => "keys of Bedrock by access key",
                AwsSource::WebIdentity { .. } => "keys of Bedrock by web identity",
                AwsSource::Container { .. } => "keys of Bedrock by the container's role",
                AwsSource::Machine { .. } => "keys of Bedrock by the machine's role",
            },
        }
    }
}
