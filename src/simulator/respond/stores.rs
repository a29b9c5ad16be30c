//! Responses from the state that earlier requests left.

use std::sync::Arc;

use http::Response;

use super::super::body::{SimulatorBody, Stream, nanoseconds};
use super::super::error::Failure;
use super::super::stored::Look;
use super::super::task::{FileTask, ResponseTask};
use super::{Asked, Exchange, Made};

impl Exchange {
    pub(super) fn file(&self, task: FileTask<'_>, asked: &Asked) -> Result<Made, Failure> {
        let mut files = self.shared.files();
        Ok(match task {
            FileTask::Upload => {
                let form = asked.form.as_ref().expect("an upload has a form");
                files.upload(self.number, nanoseconds() / 1_000_000_000, form)?.into()
            }
            FileTask::List => files.list().into(),
            FileTask::Get(id) => files.get(id)?.into(),
            FileTask::Content(id) => {
                Made { content_type: "application/octet-stream", body: files.content(id)?, tokens: None }
            }
            FileTask::Delete(id) => files.delete(id)?.into(),
        })
    }

    pub(super) fn stored(
        &self,
        task: ResponseTask,
        id: &str,
        query: Option<&str>,
        asked: &Asked,
    ) -> Result<Response<SimulatorBody>, Failure> {
        let mut responses = self.shared.responses();
        let made = match task {
            ResponseTask::Get => {
                if let Some(from) = resumed(query) {
                    let stream =
                        Stream::new(responses.play(id)?, Arc::clone(&self.shared.tally), self.order.clone());
                    return Ok(self.stream(stream.again(from)));
                }
                look(responses.get(id)?)
            }
            ResponseTask::Cancel => look(responses.cancel(id)?),
            ResponseTask::Delete => responses.delete(id)?.into(),
            ResponseTask::InputItems => responses.input_items(id)?.into(),
        };
        Ok(self.whole(made, &asked.directions, asked.dialect))
    }
}

fn look(look: Look) -> Made {
    Made::json(look.body).reporting(look.tokens)
}

/// The first event of a requested stream: `?stream=true&starting_after=N`.
fn resumed(query: Option<&str>) -> Option<u64> {
    let pairs = || form_urlencoded::parse(query.unwrap_or("").as_bytes());
    let value = |name: &str| pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned());
    value("stream").filter(|stream| stream == "true")?;
    let after = value("starting_after").and_then(|after| after.parse::<u64>().ok());
    Some(after.map_or(0, |after| after.saturating_add(1)))
}
