//! `images/generations` and `images/edits`: always the same small picture.

use serde_json::Value;

use super::directions::Directions;
use super::error::Failure;
use super::form::Form;
use super::ordered::{Json, object};
use super::reel::{Event, Reel};
use super::tally::Tokens;

/// A PNG of 8 x 8 pixels, in base64.
const PNG: &str = concat!(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEU",
    "lEQVR42mPQyFuAFTEMLQkAKopNgcOStj8AAAAASUVORK5CYII="
);

/// The largest number of pictures in one response, and of partial pictures of each: the service's
/// limits.
const MAX_PICTURES: u64 = 10;
const MAX_PARTIAL: u64 = 3;

/// The tokens of a picture to be edited.
const IMAGE_TOKENS: u64 = 40;

/// The request.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) is_edit: bool,
    count: u64,
    partial: u64,
    size: String,
    /// An older model, whose responses have no usage.
    is_dall_e: bool,
    wants_base64: bool,
    text_tokens: u64,
}

impl Picture {
    pub(super) fn of_json(
        is_edit: bool,
        model: &str,
        text_tokens: u64,
        body: &Value,
    ) -> Result<Self, Failure> {
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        Self::new(is_edit, model, text_tokens, &text, &|name| body[name].as_u64())
    }

    pub(super) fn of_form(model: &str, text_tokens: u64, form: &Form) -> Result<Self, Failure> {
        form.file("image")
            .ok_or_else(|| Failure::parameter("image", None, "Missing required parameter: 'image'."))?;
        let text = |name: &str| form.text(name).map(str::to_owned);
        Self::new(true, model, text_tokens, &text, &|name| form.text(name)?.parse().ok())
    }

    fn new(
        is_edit: bool,
        model: &str,
        text_tokens: u64,
        text: &dyn Fn(&str) -> Option<String>,
        number: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Self, Failure> {
        let count = number("n").unwrap_or(1);
        if !(1..=MAX_PICTURES).contains(&count) {
            return Err(Failure::parameter("n", None, format!("expected a number from 1 to {MAX_PICTURES}")));
        }
        let is_dall_e = model.starts_with("dall-e");
        Ok(Self {
            is_edit,
            count,
            partial: number("partial_images").unwrap_or(0).min(MAX_PARTIAL),
            size: text("size").filter(|size| size != "auto").unwrap_or_else(|| "1024x1024".to_owned()),
            is_dall_e,
            wants_base64: !is_dall_e || text("response_format").as_deref() == Some("b64_json"),
            text_tokens,
        })
    }

    /// Each event of `directions` is an output token of each picture.
    fn tokens(&self, directions: &Directions, count: u64) -> Tokens {
        let image = if self.is_edit { IMAGE_TOKENS } else { 0 };
        Tokens { input: self.text_tokens + image, output: directions.events.saturating_mul(count) }
    }

    fn usage(&self, tokens: Tokens) -> Json {
        let image = tokens.input - self.text_tokens;
        object! {
            "total_tokens": tokens.input + tokens.output, "input_tokens": tokens.input, "output_tokens": tokens.output,
            "input_tokens_details": object! { "text_tokens": self.text_tokens, "image_tokens": image },
        }
    }

    pub(super) fn reel(&self, created: u64, directions: Directions) -> Reel {
        let name = if self.is_edit { "image_edit" } else { "image_generation" };
        let event = |kind: &str| {
            object! {
                "type": format!("{name}.{kind}"), "b64_json": PNG, "created_at": created, "size": self.size,
                "quality": "low", "background": "opaque", "output_format": "png",
            }
        };
        let partial = (0..self.partial).map(|index| {
            Event::named(
                &format!("{name}.partial_image"),
                &event("partial_image").with("partial_image_index", &index),
            )
        });
        let tokens = self.tokens(&directions, 1);
        let completed = event("completed").with("usage", &self.usage(tokens));
        let completed = Event::named(&format!("{name}.completed"), &completed).reporting(Some(tokens));
        let (whole, tokens) = self.whole(created, &directions);
        Reel { whole, tokens, ..Reel::of_events(partial.chain([completed]).collect(), directions) }
    }

    fn whole(&self, created: u64, directions: &Directions) -> (Json, Option<Tokens>) {
        let one = match (self.is_dall_e, self.wants_base64) {
            (true, false) => {
                object! { "revised_prompt": "A stream gauge", "url": "https://example.com/img-simulator.png" }
            }
            (true, true) => object! { "revised_prompt": "A stream gauge", "b64_json": PNG },
            (false, _) => object! { "b64_json": PNG },
        };
        let data = vec![one; self.count as usize];
        if self.is_dall_e {
            return (object! { "created": created, "data": data }, None);
        }
        let tokens = self.tokens(directions, self.count);
        let json = object! {
            "created": created, "background": "opaque", "data": data, "output_format": "png", "quality": "low",
            "size": self.size, "usage": self.usage(tokens),
        };
        (json, Some(tokens))
    }
}
