//! The content of a request: its body, its model, its directions.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::super::ask::Ask;
use super::super::content::{self, Part};
use super::super::directions::Directions;
use super::super::error::Failure;
use super::super::form::Form;
use super::super::place::Place;
use super::super::shapes::Kind;
use super::super::task::{FileTask, Task};

/// The largest request body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// The largest body whose members are all parsed.
const MAX_DETAILED_BYTES: usize = 8 * 1024 * 1024;

/// The header with directions.
const DIRECTIONS: &str = "x-simulate";

pub(super) async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| Failure::invalid(format!("The body could not be read: {error}")))?;
    Ok(body.to_bytes())
}

/// The body, as a form or as JSON.
pub(super) fn ask(task: Task<'_>, headers: &HeaderMap, body: &Bytes) -> Result<(Ask, Option<Form>), Failure> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let takes_form = match task {
        Task::Transcription { .. } | Task::Files(FileTask::Upload) => true,
        Task::Image { is_edit } => is_edit && content_type.starts_with("multipart/"),
        _ => false,
    };
    let mut form = None;
    let mut ask = match task {
        _ if takes_form => {
            let read = Form::read(content_type, body.clone()).map_err(Failure::invalid)?;
            Ask::of_form(form.insert(read))
        }
        _ if is_without_model(task) => Ask::default(),
        _ => parse(body)?,
    };
    // The default of the service, for tasks that have one or need no model.
    let usual = match task {
        Task::Moderations => Some("omni-moderation-latest"),
        Task::Image { .. } => Some("gpt-image-1"),
        _ if is_without_model(task) => Some(""),
        _ => None,
    };
    ask.model = ask.model.or(usual.map(str::to_owned));
    Ok((ask, form))
}

/// Returns true if requests for the task name no model.
fn is_without_model(task: Task<'_>) -> bool {
    matches!(
        task,
        Task::Models
            | Task::Model(_)
            | Task::Files(_)
            | Task::Response(..)
            | Task::NewConversation
            | Task::Conversation(..)
    )
}

pub(super) fn parse(body: &[u8]) -> Result<Ask, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::invalid(format!("We could not parse the JSON body of your request: {error}"))
    })
}

/// Parses all members of a body that is not too large.
pub(super) fn detailed(body: &[u8]) -> Result<Value, Failure> {
    if body.len() > MAX_DETAILED_BYTES {
        return Err(Failure::invalid(format!("A body of this kind may have {MAX_DETAILED_BYTES} bytes.")));
    }
    serde_json::from_slice(body).map_err(|error| Failure::invalid(error.to_string()))
}

/// The content of the response, unless it is the sentence.
pub(super) fn content(
    kind: Kind,
    ask: &Ask,
    body: &[u8],
    directions: &Directions,
) -> Result<Option<Vec<Part>>, Failure> {
    if ask.may_want_content() { content::of(kind, &detailed(body)?, directions) } else { Ok(None) }
}

/// The model that responds, and the directions. A deployment's name replaces the body's model, as
/// at Azure.
pub(super) fn directions(
    headers: &HeaderMap,
    place: &Place<'_>,
    ask: &Ask,
) -> Result<(String, Directions), Failure> {
    let name = place.deployment.as_deref().or(ask.model.as_deref());
    let name = name.ok_or_else(|| Failure::parameter("model", None, "you must provide a model parameter"))?;
    // Names of fine-tuned models have colons too, but no `=`.
    let said = name.split_once(':').filter(|(_, directions)| directions.contains('='));
    let (model, in_model) = said.unwrap_or((name, ""));
    let mut directions = Directions::default();
    directions.add(in_model).map_err(|message| Failure::directions(&message))?;
    for value in headers.get_all(DIRECTIONS) {
        let text = value.to_str().map_err(|_| Failure::directions("expected ASCII"))?;
        directions.add(text).map_err(|message| Failure::directions(&message))?;
    }
    Ok((model.to_owned(), directions))
}

/// Refuses the requests that the services refuse. A proxy that requests usage for its client must
/// not cause them.
pub(super) fn check_stream_options(kind: Kind, ask: &Ask) -> Result<(), Failure> {
    let Some(options) = &ask.stream_options else { return Ok(()) };
    if !ask.stream() {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Failure::parameter("stream_options", None, message));
    }
    if kind == Kind::Responses && options.include_usage.is_some() {
        let message = "Unknown parameter: 'stream_options.include_usage'.";
        return Err(Failure::parameter("stream_options.include_usage", Some("unknown_parameter"), message));
    }
    Ok(())
}
