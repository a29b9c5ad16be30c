//! `audio/transcriptions` and `audio/translations`: the sentence, for any sound.

use bytes::BytesMut;

use super::directions::Directions;
use super::error::Failure;
use super::form::Form;
use super::ordered::{Json, object};
use super::reel::{Event, Reel};
use super::tally::Tokens;
use super::text;

/// The bytes that count as a second of sound, and its tokens.
const BYTES_A_SECOND: usize = 16_000;
const TOKENS_A_SECOND: u64 = 10;

/// The request.
#[derive(Debug)]
pub(super) struct Transcription {
    is_translation: bool,
    format: Format,
    /// Billed by time, and without streams.
    is_whisper: bool,
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Json,
    Text,
    Srt,
    Vtt,
    Verbose,
}

/// A response in JSON or in another form.
pub(super) struct Written {
    pub(super) content_type: &'static str,
    pub(super) body: String,
    pub(super) tokens: Option<Tokens>,
}

impl Transcription {
    pub(super) fn of(is_translation: bool, model: &str, form: &Form) -> Result<Self, Failure> {
        let file = form.file("file").ok_or_else(|| Failure::parameter("file", None, "file is required"))?;
        let format = match form.text("response_format").unwrap_or("json") {
            "json" => Format::Json,
            "text" => Format::Text,
            "srt" => Format::Srt,
            "vtt" => Format::Vtt,
            "verbose_json" => Format::Verbose,
            _ => {
                let message = "The simulator writes json, text, srt, vtt and verbose_json.";
                return Err(Failure::parameter("response_format", None, message));
            }
        };
        let seconds = file.1.len().div_ceil(BYTES_A_SECOND).max(1) as u64;
        Ok(Self { is_translation, format, is_whisper: model.starts_with("whisper"), seconds })
    }

    pub(super) fn whole(&self, directions: &Directions) -> Written {
        let text = said(directions);
        let usage = (!self.is_translation).then(|| self.usage(directions));
        let with_usage = |json: Json| match &usage {
            Some(usage) => json.with("usage", usage),
            None => json,
        };
        let json = match self.format {
            Format::Json => with_usage(object! { "text": text }),
            Format::Verbose => with_usage(self.verbose(&text)),
            Format::Text | Format::Srt | Format::Vtt => {
                return Written {
                    content_type: "text/plain; charset=utf-8",
                    body: self.lines(&text),
                    tokens: None,
                };
            }
        };
        let tokens = (!self.is_translation && !self.is_whisper).then(|| self.tokens(directions));
        Written { content_type: "application/json", body: json.into_string(), tokens }
    }

    /// Lines end as in the service's response.
    pub(super) fn reel(&self, directions: Directions) -> Reel {
        let delta = |index| object! { "type": "transcript.text.delta", "delta": word(index, &directions) };
        let mut events: Vec<_> =
            (0..directions.events).map(|index| with_crlf(Event::data(&delta(index)))).collect();
        let usage = self.usage(&directions);
        let done = object! { "type": "transcript.text.done", "text": said(&directions), "usage": usage };
        let tokens = self.tokens(&directions);
        events.push(with_crlf(Event::data(&done)).reporting(Some(tokens)));
        events.push(with_crlf(Event::done()));
        Reel::of_events(events, directions)
    }

    pub(super) fn may_stream(&self) -> bool {
        !self.is_whisper && !self.is_translation
    }

    fn tokens(&self, directions: &Directions) -> Tokens {
        Tokens { input: self.seconds * TOKENS_A_SECOND, output: directions.events }
    }

    fn usage(&self, directions: &Directions) -> Json {
        if self.is_whisper {
            return object! { "type": "duration", "seconds": self.seconds };
        }
        let Tokens { input, output } = self.tokens(directions);
        object! {
            "type": "tokens", "total_tokens": input + output, "input_tokens": input,
            "input_token_details": object! { "text_tokens": 0_u64, "audio_tokens": input }, "output_tokens": output,
        }
    }

    fn verbose(&self, text: &str) -> Json {
        let segment = object! {
            "id": 0_u64, "seek": 0_u64, "start": 0.0, "end": self.seconds as f64, "text": text, "tokens": Vec::new(),
            "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.25, "no_speech_prob": 0.01,
        };
        let task = if self.is_translation { "translate" } else { "transcribe" };
        object! {
            "task": task, "language": "english", "duration": self.seconds as f64, "text": text, "segments": [segment],
        }
    }

    fn lines(&self, text: &str) -> String {
        let (minutes, seconds) = (self.seconds / 60, self.seconds % 60);
        let time = |mark: char| {
            let end = format!("{:02}:{:02}:{seconds:02}{mark}000", minutes / 60, minutes % 60);
            format!("00:00:00{mark}000 --> {end}")
        };
        match self.format {
            Format::Srt => format!("1\n{}\n{text}\n\n", time(',')),
            Format::Vtt => format!("WEBVTT\n\n{}\n{text}\n\n", time('.')),
            _ => format!("{text}\n"),
        }
    }
}

fn with_crlf(event: Event) -> Event {
    Event { text: event.text.replace('\n', "\r\n"), ..event }
}

fn word(index: u64, directions: &Directions) -> String {
    let mut out = BytesMut::new();
    text::write(index, directions.size, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn said(directions: &Directions) -> String {
    (0..directions.events).map(|index| word(index, directions)).collect()
}
