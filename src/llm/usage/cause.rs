//! The cause of an upstream's error response.

/// The cause of an upstream's error.
///
/// The status decides. Under a 2xx status (an event of a stream, or a body) the first meaningful
/// word of `code` and `type` decides ([`Cause::of`]). A code that is a number counts as a status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The service failed, or refused its configured credentials; also unknown causes.
    #[default]
    Upstream,
    /// The request is invalid and fails again when it is repeated.
    Request,
    /// A rate limit or quota is exhausted.
    Rate,
}

/// Parts of words that indicate a cause, in the order of the search. They come from the APIs'
/// tables of errors (OpenAI, Azure, Anthropic, Gemini, vLLM), in lower case without separators.
const WORDS: &[(Cause, &[&str])] = &[
    (Cause::Rate, &["ratelimit", "toomanyrequests", "quota", "throttl", "resourceexhausted"]),
    (
        Cause::Upstream,
        &[
            "apikey",
            "authentication",
            "permission",
            "unauthorized",
            "forbidden",
            "server",
            "internal",
            "apierror",
            "overloaded",
            "unavailable",
            "timeout",
            "upstream",
        ],
    ),
    (
        Cause::Request,
        &[
            "invalid",
            "badrequest",
            "notfound",
            "contextlength",
            "toolarge",
            "toolong",
            "unsupported",
            "unprocessable",
            "contentfilter",
            "policy",
            "image",
        ],
    ),
];

/// The longest word that is compared, in bytes; real ones have up to 40.
const MAX_WORD: usize = 64;

impl Cause {
    /// 429 is a rate limit; 401, 403, 408 and 5xx are the upstream's fault, and so are the invalid
    /// ones above (RFC 9110 section 15); other 4xx are the request's. `None` if the status is not an
    /// error.
    pub fn of_status(status: u16) -> Option<Cause> {
        match status {
            429 => Some(Cause::Rate),
            401 | 403 | 408 | 500..=999 => Some(Cause::Upstream),
            400..=499 => Some(Cause::Request),
            _ => None,
        }
    }

    /// The cause by an error's words, the most specific first.
    pub(super) fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Cause {
        words.into_iter().find_map(Cause::of_word).unwrap_or_default()
    }

    fn of_word(word: &str) -> Option<Cause> {
        if let Ok(status) = word.trim().parse() {
            return Cause::of_status(status);
        }
        let letters = word.bytes().take(MAX_WORD).filter(u8::is_ascii_alphanumeric);
        let word: String = letters.map(|letter| letter.to_ascii_lowercase() as char).collect();
        let says = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
        WORDS.iter().find(|(_, parts)| says(parts)).map(|&(cause, _)| cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_follows_from_the_status() {
        for (cause, statuses) in [
            (Some(Cause::Request), &[400, 402, 404, 405, 409, 413, 415, 418, 422, 451][..]),
            (Some(Cause::Rate), &[429]),
            (Some(Cause::Upstream), &[401, 403, 408, 500, 502, 503, 504, 529, 600, 999]),
            (None, &[100, 200, 204, 302, 304, 399]),
        ] {
            for &status in statuses {
                assert_eq!(Cause::of_status(status), cause, "{status}");
            }
        }
    }

    #[test]
    fn cause_follows_from_words_of_the_error() {
        for (cause, words) in [
            (
                Cause::Rate,
                &["rate_limit_exceeded", "rate_limit_error", "RateLimitReached", "insufficient_quota"][..],
            ),
            (Cause::Rate, &["RESOURCE_EXHAUSTED", "ThrottlingException", "429", "too_many_requests"]),
            (
                Cause::Request,
                &["invalid_request_error", "BadRequestError", "context_length_exceeded", "400", "422"],
            ),
            (
                Cause::Request,
                &["invalid_prompt", "model_not_found", "previous_response_not_found", "not_found_error"],
            ),
            (
                Cause::Request,
                &["request_too_large", "content_filter", "image_parse_error", "INVALID_ARGUMENT"],
            ),
            (
                Cause::Upstream,
                &["server_error", "internal_error", "api_error", "overloaded_error", "503", "529"],
            ),
            (Cause::Upstream, &["invalid_api_key", "authentication_error", "permission_error", "401"]),
            (Cause::Upstream, &["vector_store_timeout", "1302", "", "it broke", "ÜBERLAST"]),
        ] {
            for &word in words {
                assert_eq!(Cause::of([word]), cause, "{word}");
            }
        }
    }

    #[test]
    fn cause_follows_the_first_meaningful_word() {
        assert_eq!(Cause::of(["rate_limit_exceeded", "invalid_request_error"]), Cause::Rate);
        assert_eq!(Cause::of(["invalid_api_key", "invalid_request_error"]), Cause::Upstream);
        assert_eq!(Cause::of(["E17", "invalid_request_error"]), Cause::Request);
        assert_eq!(Cause::of([]), Cause::Upstream);
    }
}
