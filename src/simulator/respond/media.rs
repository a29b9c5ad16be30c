//! Responses about sound and pictures, and moderation of texts.

use std::sync::Arc;

use http::Response;

use super::super::body::{SimulatorBody, Stream, nanoseconds};
use super::super::error::Failure;
use super::super::images::Picture;
use super::super::moderation::moderation;
use super::super::ordered::Json;
use super::super::play::Play;
use super::super::reel::Reel;
use super::super::speech::Sound;
use super::super::transcription::Transcription;
use super::request::detailed;
use super::{Asked, Exchange, Made, escaped};

impl Exchange {
    pub(super) fn moderation(&self, asked: &Asked) -> Result<Made, Failure> {
        let model = Json::raw(format!("\"{}\"", escaped(&asked.model)));
        Ok(moderation(self.number, &model, &detailed(&asked.body)?["input"]).into())
    }

    pub(super) fn speech(&self, asked: Asked) -> Result<Response<SimulatorBody>, Failure> {
        let body = detailed(&asked.body)?;
        let sound = Sound::named(body["response_format"].as_str())?;
        if body["stream_format"] == "sse" {
            check(&asked)?;
            return Ok(self.reel(sound.reel(asked.ask.input_tokens(), asked.directions)));
        }
        let made =
            Made { content_type: sound.content_type(), body: sound.file(&asked.directions), tokens: None };
        Ok(self.whole(made, &asked.directions, asked.dialect))
    }

    pub(super) fn transcription(
        &self,
        is_translation: bool,
        asked: Asked,
    ) -> Result<Response<SimulatorBody>, Failure> {
        check(&asked)?;
        let form = asked.form.as_ref().expect("a transcription has a form");
        let transcription = Transcription::of(is_translation, &asked.model, form)?;
        if asked.ask.stream() && transcription.may_stream() {
            return Ok(self.reel(transcription.reel(asked.directions)));
        }
        let written = transcription.whole(&asked.directions);
        let made =
            Made { content_type: written.content_type, body: written.body.into(), tokens: written.tokens };
        Ok(self.whole(made, &asked.directions, asked.dialect))
    }

    pub(super) fn image(&self, is_edit: bool, asked: Asked) -> Result<Response<SimulatorBody>, Failure> {
        let words = asked.ask.input_tokens();
        let picture = match &asked.form {
            Some(form) => Picture::of_form(&asked.model, words, form)?,
            None => Picture::of_json(is_edit, &asked.model, words, &detailed(&asked.body)?)?,
        };
        let reel = picture.reel(nanoseconds() / 1_000_000_000, asked.directions);
        if asked.ask.stream() {
            return Ok(self.reel(reel));
        }
        let made = Made::from(reel.whole).reporting(reel.tokens);
        Ok(self.whole(made, &reel.directions, asked.dialect))
    }

    fn reel(&self, reel: Reel) -> Response<SimulatorBody> {
        let play = Arc::new(Play::Reel(reel));
        self.stream(Stream::new(play, Arc::clone(&self.shared.tally), self.order.clone()))
    }
}

/// Fails if there are too many events to be written beforehand.
fn check(asked: &Asked) -> Result<(), Failure> {
    asked.directions.fits_in_a_reel().map_err(|message| Failure::directions(&message))
}
