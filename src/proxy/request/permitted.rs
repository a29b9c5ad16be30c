//! Refuses requests to endpoints and for models that their client may not use.
//!
//! The model is the one that the request names, before aliases: in the body, in the query, or by
//! its deployment in an Azure SDK's path. A service must not read another one, so that a request
//! that names several is refused.

use http::Method;

use super::Routed;
use crate::gate::{AllowedEndpoints, KnownClient, Models};
use crate::llm::provider::{Endpoint, Inbound, ModelPlace, Stored, UsageOwner, query_models};
use crate::llm::rewrite::body::asked_output;
use crate::record::error::{Error, Kind, NotMetered, Result};

/// Checks the endpoint of a request that streamgauge itself responds to.
///
/// # Errors
/// Fails if `client` may not use the endpoint.
pub(super) fn permit_endpoint(client: &KnownClient, method: &Method, inbound: &Inbound<'_>) -> Result<()> {
    let endpoint = Endpoint::of(inbound.path);
    if client.endpoints == AllowedEndpoints::All
        || endpoint.is_metered(method, inbound.path, inbound.is_session)
    {
        return Ok(());
    }
    let (endpoint, reason, client) = (endpoint.name, NotMetered::Endpoint, client.name.to_string());
    Err(Kind::EndpointNotAllowed { endpoint, reason, client }.into())
}

impl Routed<'_> {
    /// `endpoint`: that of the request.
    ///
    /// # Errors
    /// Fails if `client` may not use the endpoint or the model, or if the model cannot be read.
    pub(super) fn permit(&self, client: &KnownClient, endpoint: Endpoint) -> Result<()> {
        if client.endpoints == AllowedEndpoints::Metered
            && let Some(reason) = self.not_metered(endpoint)
        {
            let (endpoint, client) = (endpoint.name, client.name.to_string());
            return Err(Kind::EndpointNotAllowed { endpoint, reason, client }.into());
        }
        if let Some(most) = client.max_output {
            self.permit_output(endpoint, most, client)?;
        }
        if client.needs_model() { self.permit_model(endpoint, client) } else { Ok(()) }
    }

    /// Refuses a request that asks for more than `most` output tokens, or whose body cannot be read.
    fn permit_output(&self, endpoint: Endpoint, most: u64, client: &KnownClient) -> Result<()> {
        let is_body = endpoint.takes_json_model() && endpoint.uses_tokens(&self.buffered.head.method);
        match asked_output(self.buffered.text()) {
            // Gemini's field is inside an object, of which nothing is read.
            _ if endpoint.is_unread(self.inbound.path)
                && endpoint.uses_tokens(&self.buffered.head.method) =>
            {
                let (field, asked) = ("generationConfig", "an unread number of".to_owned());
                let client = client.name.to_string();
                Err(Kind::OutputTooLarge { field, asked, most, client }.into())
            }
            None if is_body && self.peek.is_none() && !self.inbound.is_session => {
                let models = (client.models != Models::All).then(|| client.models.to_string());
                Err(Kind::ModelUnknown { models, client: client.name.to_string() }.into())
            }
            Some((field, asked)) if asked > most as f64 => {
                let client = client.name.to_string();
                Err(Kind::OutputTooLarge { field, asked: asked.to_string(), most, client }.into())
            }
            _ => Ok(()),
        }
    }

    /// The reason why the tokens of the request are not counted in its own record. `None`: they are.
    fn not_metered(&self, endpoint: Endpoint) -> Option<NotMetered> {
        let Self { buffered, peek, inbound, .. } = self;
        let method = &buffered.head.method;
        if !endpoint.is_metered(method, inbound.path, inbound.is_session) {
            return Some(NotMetered::Endpoint);
        }
        let background = peek.as_ref().map(|peek| peek.background);
        match endpoint.usage_owner(method, inbound.path, background) {
            UsageOwner::Stored(Stored { id: None, .. }) => Some(NotMetered::Background),
            _ => None,
        }
    }

    fn permit_model(&self, endpoint: Endpoint, client: &KnownClient) -> Result<()> {
        let Self { buffered, peek, inbound, .. } = self;
        let models = &client.models;
        let unknown = || -> Error {
            let models = (*models != Models::All).then(|| models.to_string());
            Kind::ModelUnknown { models, client: client.name.to_string() }.into()
        };
        let refused = |model: &str| -> Result<()> {
            let (models, client) = (models.to_string(), client.name.to_string());
            Err(Kind::ModelNotAllowed { model: model.to_owned(), models, client }.into())
        };
        // Every member must be allowed, since any may get the request.
        let is_deployment_allowed = |deployment: &str| {
            (0..self.target.len()).all(|member| {
                let dialect = &self.target.member(member).spec.dialect;
                dialect.models_of(deployment).any(|model| models.allows(model))
            })
        };
        match endpoint.model_place(&buffered.head.method, inbound.path, inbound.is_session) {
            ModelPlace::Nowhere => match self.asked() {
                Some(model) if !models.allows(model) => refused(model),
                _ => Ok(()),
            },
            // Limits look at the messages, which have to name the URL's model.
            ModelPlace::Messages => match self.asked() {
                Some(model) if !client.limits.is_empty() && models.allows(model) => Ok(()),
                Some(model) if !client.limits.is_empty() => refused(model),
                _ => Err(unknown()),
            },
            ModelPlace::Path(None) => Err(unknown()),
            // The path decides, and limits would count for the body's model.
            ModelPlace::Path(Some(deployment))
                if client.has_limits_of_models()
                    && self.asked().is_some_and(|model| !self.is_deployment_of(&deployment, model)) =>
            {
                Err(Kind::ModelAmbiguous.into())
            }
            ModelPlace::Path(Some(deployment)) if is_deployment_allowed(&deployment) => Ok(()),
            ModelPlace::Path(Some(deployment)) => refused(&deployment),
            ModelPlace::Query => match &query_models(inbound.query.unwrap_or_default())[..] {
                [] => self.permit_default(models).ok_or_else(unknown)?.or_else(|model| refused(&model)),
                [(is_deployment, model)] => {
                    let is_allowed = models.allows(model) || (*is_deployment && is_deployment_allowed(model));
                    if is_allowed { Ok(()) } else { refused(model) }
                }
                _ => Err(Kind::ModelAmbiguous.into()),
            },
            ModelPlace::Body { takes_default } => match self.asked() {
                _ if buffered.names_model_twice(peek.as_ref()) => Err(Kind::ModelAmbiguous.into()),
                Some(model) if models.allows(model) => Ok(()),
                Some(model) => refused(model),
                None if takes_default && peek.is_some() => {
                    self.permit_default(models).ok_or_else(unknown)?.or_else(|model| refused(&model))
                }
                None => Err(unknown()),
            },
        }
    }

    /// Returns true if the body's model is another name of the path's deployment.
    fn is_deployment_of(&self, deployment: &str, model: &str) -> bool {
        let is_name = |member| {
            let dialect = &self.target.member(member).spec.dialect;
            dialect.models_of(deployment).any(|name| name == model)
        };
        model == deployment || (0..self.target.len()).any(is_name)
    }

    /// Checks the model that each member gets if the request names none: `Err` is one that is not
    /// allowed. `None`: a member has no default.
    fn permit_default(&self, models: &Models) -> Option<std::result::Result<(), String>> {
        for member in 0..self.target.len() {
            let model = self.model(member)?;
            if !models.allows(model) {
                return Some(Err(model.to_owned()));
            }
        }
        Some(Ok(()))
    }
}
