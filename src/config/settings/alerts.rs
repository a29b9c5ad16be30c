//! `[[alerts]]`.

use std::fmt;

use super::ForwardProxy;
use crate::config::AlertTemplate;
use crate::llm::provider::BaseUrl;
use crate::support::secret::Secret;

/// `[[alerts]]`: a webhook, and its notices.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub url: WebhookUrl,
    /// `None`: notices are not signed.
    pub signing_key: Option<Secret>,
    /// The used parts of limits that are told, ascending.
    pub thresholds: Vec<f64>,
    /// Upstreams that are out are told.
    pub upstreams: bool,
    /// The webhook gets trouble of the ledger.
    pub ledger: bool,
    /// The cost of an hour above which the webhook gets spikes, in each currency. `None`: it gets none.
    pub spikes: Option<f64>,
    pub template: AlertTemplate,
    /// `None`: a direct connection.
    pub proxy: Option<ForwardProxy>,
}

/// The URL of a webhook, of which any part behind the host may be a secret.
#[derive(Clone, PartialEq)]
pub struct WebhookUrl {
    /// Without a slash at its end.
    pub base: BaseUrl,
    pub has_slash: bool,
    pub query: Option<Secret>,
}

impl WebhookUrl {
    /// The path and the query.
    pub fn target(&self) -> String {
        let path = self.base.path();
        let slash = if self.has_slash || path.is_empty() { "/" } else { "" };
        let query = self.query.iter().flat_map(|query| ["?", query.expose()]);
        [path, slash].into_iter().chain(query).collect()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/***", self.base.authority())
    }
}
