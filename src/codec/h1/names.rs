//! The names of headers.

use http::HeaderName;

use super::error::ProtocolError;

/// A name, in lower case. One that services usually send costs no allocation, which a response's
/// head shows: it takes an eighth less time.
pub(super) fn header_name(name: &str) -> Result<HeaderName, ProtocolError> {
    if let Some(known) = KNOWN.get(usize::from(PLACES[place(name.as_bytes())]))
        // Most services write names in lower case already, which is quicker to compare.
        && (known.as_str() == name || known.as_str().eq_ignore_ascii_case(name))
    {
        return Ok(known.clone());
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| ProtocolError::HeaderName)
}

macro_rules! known {
    ($($name:literal)*) => {
        const NAMES: &[&str] = &[$($name),*];
        static KNOWN: [HeaderName; NAMES.len()] = [$(HeaderName::from_static($name)),*];
    };
}

// The names that OpenAI, Azure and the servers before them put on a response, and their SDKs on a
// request, beside the names that `http` knows itself.
known! {
    "api-key"
    "apim-request-id"
    "azureml-model-session"
    "cf-cache-status"
    "cf-ray"
    "idempotency-key"
    "keep-alive"
    "openai-beta"
    "openai-model"
    "openai-organization"
    "openai-processing-ms"
    "openai-project"
    "openai-version"
    "request-id"
    "x-accel-buffering"
    "x-envoy-upstream-service-time"
    "x-ms-client-request-id"
    "x-ms-deployment-name"
    "x-ms-rai-invoked"
    "x-ms-region"
    "x-openai-proxy-wasm"
    "x-ratelimit-limit-requests"
    "x-ratelimit-limit-tokens"
    "x-ratelimit-remaining-requests"
    "x-ratelimit-remaining-tokens"
    "x-ratelimit-reset-requests"
    "x-ratelimit-reset-tokens"
    "x-request-id"
    "x-stainless-arch"
    "x-stainless-async"
    "x-stainless-lang"
    "x-stainless-os"
    "x-stainless-package-version"
    "x-stainless-read-timeout"
    "x-stainless-retry-count"
    "x-stainless-runtime"
    "x-stainless-runtime-version"
}

/// The hash of a name: its length and three of its letters, in either case.
const fn place(name: &[u8]) -> usize {
    let [first, .., last] = name else { return 0 };
    let middle = name[name.len() / 2];
    (name.len() + letter(*first) * 4 + letter(middle) * 9 + letter(*last)) % PLACE_COUNT
}

const fn letter(byte: u8) -> usize {
    byte.to_ascii_lowercase() as usize
}

const PLACE_COUNT: usize = 128;

const NO_NAME: u8 = u8::MAX;

/// The index of the known name that has each place.
static PLACES: [u8; PLACE_COUNT] = {
    let mut places = [NO_NAME; PLACE_COUNT];
    let mut index = 0;
    while index < NAMES.len() {
        let place = place(NAMES[index].as_bytes());
        assert!(places[place] == NO_NAME, "two names at one place: choose other factors");
        places[place] = index as u8;
        index += 1;
    }
    places
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_name_is_found_in_any_case() {
        for name in NAMES {
            let places = PLACES[place(name.as_bytes())];
            assert_eq!(NAMES[usize::from(places)], *name);
            for written in [name.to_string(), name.to_ascii_uppercase()] {
                assert_eq!(header_name(&written).unwrap(), *name);
            }
        }
    }

    #[test]
    fn any_other_name_is_itself() {
        for name in ["a", "x-request-ie", "cf_ray", "date", "X-Whatever-Else"] {
            assert_eq!(header_name(name).unwrap(), name.to_ascii_lowercase().as_str());
        }
        assert_eq!(header_name(""), Err(ProtocolError::HeaderName));
        assert_eq!(header_name("a b"), Err(ProtocolError::HeaderName));
    }
}
