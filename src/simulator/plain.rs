//! The responses that are never streamed: embeddings, models, and the echo of a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use http::request::Parts;
use serde_json::{Value, json};

use super::ask::Ask;
use super::error::Failure;
use super::ordered::{Json, object};
use super::shapes::Kind;

/// The models of `/v1/models`. Any other model responds as well, but is not listed.
const MODELS: [&str; 4] = ["sim", "gpt-4.1", "gpt-4.1-mini", "text-embedding-3-small"];

/// The default dimensions of an embedding.
const DIMENSIONS: u32 = 1536;

/// The largest number of numbers in one response.
const MAX_NUMBERS: u64 = 4 * 1024 * 1024;

/// `/v1/models`.
pub(super) fn models() -> Value {
    json!({"object": "list", "data": MODELS.map(model)})
}

/// `/v1/models/{id}`.
pub(super) fn one_model(id: &str) -> Result<Value, Failure> {
    MODELS.contains(&id).then(|| model(id)).ok_or_else(|| Failure::no_such_model(id))
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_744_316_542, "owned_by": "simulator"})
}

/// `/v1/embeddings`: a vector of length one for each text, as numbers or as the base64 of
/// little-endian floats. `model` is escaped for JSON.
pub(super) fn embeddings(ask: &Ask, model: &str) -> Result<BytesMut, Failure> {
    let dimensions = ask.dimensions.unwrap_or(DIMENSIONS);
    let texts = ask.input.items as u64;
    if dimensions == 0 || texts.saturating_mul(dimensions.into()) > MAX_NUMBERS {
        let message = format!("dimensions times texts must be from 1 to {MAX_NUMBERS}");
        return Err(Failure::parameter("dimensions", None, message));
    }
    let in_base64 = ask.encoding_format.as_deref() == Some("base64");
    // All its numbers are equal, chosen so that its length is one.
    let component = 1.0 / (dimensions as f32).sqrt();
    let vector = if in_base64 {
        let bytes = component.to_le_bytes().repeat(dimensions as usize);
        format!("\"{}\"", STANDARD.encode(&bytes))
    } else {
        format!("[{}]", vec![component.to_string(); dimensions as usize].join(","))
    };
    let mut out = BytesMut::with_capacity((vector.len() + 64) * ask.input.items + 256);
    out.put_slice(b"{\"object\":\"list\",\"data\":[");
    for index in 0..texts {
        let comma = if index > 0 { "," } else { "" };
        let start = format!("{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":");
        for piece in [&start, &vector, "}"] {
            out.put_slice(piece.as_bytes());
        }
    }
    let tokens = ask.input_tokens();
    let end = format!(
        "],\"model\":\"{model}\",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}\n"
    );
    out.put_slice(end.as_bytes());
    Ok(out)
}

/// `/v1/responses/input_tokens` and `/v1/messages/count_tokens`.
pub(super) fn count(kind: Kind, tokens: u64) -> Json {
    match kind {
        Kind::Responses => object! { "object": "response.input_tokens", "input_tokens": tokens },
        _ => object! { "input_tokens": tokens },
    }
}

/// The echo of a request as it arrived. Header names are in lower case; the values of a repeated
/// one are joined at the place of the first. Invalid UTF-8 in a body becomes U+FFFD.
pub(super) fn echo(parts: &Parts, body: &[u8]) -> Value {
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
    json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "authority": parts.uri.authority().map(ToString::to_string),
        "version": format!("{:?}", parts.version),
        "headers": headers.collect::<Vec<_>>(),
        "body_length": body.len(),
        "body": String::from_utf8_lossy(body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &str) -> Ask {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn each_text_has_a_vector_of_length_one() {
        let ask = ask(r#"{"input":["one two","three"],"dimensions":16}"#);
        let response: Value = serde_json::from_slice(&embeddings(&ask, "m").ok().unwrap()).unwrap();
        assert_eq!(response["data"].as_array().unwrap().len(), 2);
        let vector = response["data"][1]["embedding"].as_array().unwrap();
        assert_eq!(vector.len(), 16);
        let length: f64 = vector.iter().map(|number| number.as_f64().unwrap().powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
        assert_eq!(response["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    }

    #[test]
    fn base64_has_four_bytes_for_each_dimension() {
        let ask = ask(r#"{"input":"one","dimensions":3,"encoding_format":"base64"}"#);
        let response: Value = serde_json::from_slice(&embeddings(&ask, "m").ok().unwrap()).unwrap();
        assert_eq!(response["data"][0]["embedding"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn response_has_a_largest_size() {
        assert!(embeddings(&ask(r#"{"input":"one","dimensions":4294967295}"#), "m").is_err());
        assert!(embeddings(&ask(r#"{"input":"one","dimensions":0}"#), "m").is_err());
    }
}
