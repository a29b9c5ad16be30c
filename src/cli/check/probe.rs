//! The request of `check --live`: a short prompt in the endpoint's form, with a small limit on
//! output tokens in the service's spelling.

use std::io::{self, Read as _};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use crate::config::Upstream;
use crate::llm::provider::{Endpoint, Provider};

/// The model for OpenAI if none is named anywhere.
const USUAL_MODEL: &str = "gpt-4.1-mini";

/// The limit on output tokens: the minimum of OpenAI's Responses.
const MAX_TOKENS: u32 = 16;

/// Options of the request.
#[derive(Debug, Args)]
pub(super) struct Probe {
    /// The message to the model
    #[arg(long, value_name = "TEXT", default_value = "Hello world", requires = "live")]
    message: String,
    /// The model to request [default: the upstream's default_model, else the first of its models or
    /// deployments, else gpt-4.1-mini]
    #[arg(long, value_name = "NAME", requires = "live")]
    model: Option<String>,
    /// Send this file ("-" is stdin) instead of a question, as a client would
    #[arg(long, value_name = "FILE", requires = "live", conflicts_with_all = ["message", "model"])]
    body: Option<PathBuf>,
    /// The endpoint, such as embeddings or /v1/embeddings
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions", requires = "live", value_parser = path)]
    pub(super) path: String,
}

/// The inbound path of an endpoint that may lack the slash and the version.
fn path(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix('/').unwrap_or(text);
    let path = match rest {
        _ if rest.starts_with("v1/") || rest.starts_with("openai/") => format!("/{rest}"),
        _ => format!("/v1/{rest}"),
    };
    match path.parse::<http::uri::PathAndQuery>() {
        Ok(_) if !rest.is_empty() && !rest.starts_with('/') => Ok(path),
        _ => Err("a path has no spaces, such as embeddings or /v1/embeddings".to_owned()),
    }
}

impl Probe {
    /// The content of `--body`.
    pub(super) fn body(&self) -> Result<Option<Bytes>, String> {
        let Some(path) = &self.body else { return Ok(None) };
        let read = if path.as_os_str() == "-" {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map(|_| text)
        } else {
            std::fs::read(path)
        };
        let text = read.map_err(|error| format!("--body {}: {error}", path.display()))?;
        match serde_json::from_slice::<Value>(&text) {
            Ok(_) => Ok(Some(text.into())),
            Err(error) => Err(format!("--body {}: is not JSON: {error}", path.display())),
        }
    }

    /// The bodies to try, in order, until one is not refused because of its limit; at least one.
    /// The proxy inserts `default_model`.
    pub(super) fn bodies(&self, upstream: &Upstream) -> Vec<Bytes> {
        let text = self.message.as_str();
        let chat = json!({ "messages": [{ "role": "user", "content": text }] });
        let is_openai = matches!(upstream.provider, Provider::OpenAi | Provider::Azure);
        let (mut body, limits): (Value, &[&str]) =
            match Endpoint::of(self.path.split('?').next().unwrap_or_default()).name {
                // OpenAI's reasoning models accept only the longer name, older services only the
                // shorter one.
                "chat/completions" if is_openai => (chat, &["max_completion_tokens", "max_tokens"]),
                "chat/completions" => (chat, &["max_tokens", "max_completion_tokens"]),
                "messages" => (chat, &["max_tokens"]),
                "completions" => (json!({ "prompt": text }), &["max_tokens"]),
                "responses" => (json!({ "input": text }), &["max_output_tokens"]),
                "embeddings" | "moderations" => (json!({ "input": text }), &[]),
                _ => (chat, &[]),
            };
        if let Some(model) = self.model.as_deref().or_else(|| usual_model(upstream)) {
            body["model"] = model.into();
        }
        let limited = limits.iter().map(|limit| {
            let mut body = body.clone();
            body[*limit] = MAX_TOKENS.into();
            body
        });
        limited.chain([body.clone()]).map(|body| body.to_string().into()).collect()
    }
}

/// The model if `--model` is not given. `None` if the proxy inserts one.
fn usual_model(upstream: &Upstream) -> Option<&str> {
    if upstream.default_model.is_some() {
        return None;
    }
    let named = upstream.models.keys().chain(upstream.deployments.keys()).next();
    named.map(String::as_str).or((upstream.provider == Provider::OpenAi).then_some(USUAL_MODEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_named_with_or_without_slash_and_version() {
        for (text, expected) in [
            ("messages", "/v1/messages"),
            ("/messages", "/v1/messages"),
            ("v1/messages", "/v1/messages"),
            ("/v1/messages", "/v1/messages"),
            ("chat/completions?a=b", "/v1/chat/completions?a=b"),
            ("/openai/deployments/d/embeddings", "/openai/deployments/d/embeddings"),
        ] {
            assert_eq!(path(text).as_deref(), Ok(expected));
        }
        for wrong in ["", "/", "//x", "a b"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }
}
