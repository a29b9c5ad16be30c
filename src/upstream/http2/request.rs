//! The head of a request over HTTP/2.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use crate::codec::h1::BodyFraming;

/// Builds the head (RFC 9113 section 8.3.1): scheme and target become pseudo-headers, `Host`
/// becomes `:authority`. `headers` must have no header of the connection or the framing. Sensitive
/// values stay sensitive, which keeps them out of the compression table.
///
/// # Errors
/// Returns an error if the target or the host is not valid in a URI.
pub(in crate::upstream) fn request(
    method: &Method,
    target: &str,
    headers: impl Iterator<Item = (HeaderName, HeaderValue)>,
    framing: BodyFraming,
    is_https: bool,
) -> Result<Request<()>, http::Error> {
    let mut fields = HeaderMap::with_capacity(headers.size_hint().0 + 1);
    let mut parts = http::uri::Parts::default();
    for (name, value) in headers {
        if name == header::HOST {
            parts.authority = Some(Authority::try_from(value.as_bytes())?);
        } else {
            fields.append(name, value);
        }
    }
    let length = match framing {
        BodyFraming::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Some(0),
        BodyFraming::None | BodyFraming::Chunked => None,
        BodyFraming::Length(length) => Some(length),
    };
    if let Some(length) = length {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    parts.scheme = Some(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
    parts.path_and_query = Some(PathAndQuery::try_from(target)?);
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(method: Method, upload: BodyFraming, is_https: bool) -> Request<()> {
        let mut key = HeaderValue::from_static("Bearer sk");
        key.set_sensitive(true);
        let headers = [
            (header::HOST, HeaderValue::from_static("api.example:8443")),
            (header::ACCEPT, HeaderValue::from_static("a")),
            (header::ACCEPT, HeaderValue::from_static("b")),
            (header::AUTHORIZATION, key),
        ];
        request(&method, "/v1/chat?api-version=1", headers.into_iter(), upload, is_https).unwrap()
    }

    #[test]
    fn host_becomes_authority_and_other_headers_keep_their_order() {
        let request = made(Method::POST, BodyFraming::Length(7), true);
        assert_eq!(*request.uri(), "https://api.example:8443/v1/chat?api-version=1");
        let fields = request.headers().iter();
        let names: Vec<_> = fields.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            names,
            [("accept", "a"), ("accept", "b"), ("authorization", "Bearer sk"), ("content-length", "7")]
        );
        assert!(request.headers()[header::AUTHORIZATION].is_sensitive(), "no key in a compression table");
        assert_eq!(made(Method::GET, BodyFraming::None, false).uri().scheme(), Some(&Scheme::HTTP));
    }

    #[test]
    fn content_length_is_sent_where_known_or_expected() {
        for (method, upload, length) in [
            (Method::GET, BodyFraming::None, None),
            (Method::POST, BodyFraming::None, Some("0")),
            (Method::POST, BodyFraming::Length(0), Some("0")),
            (Method::POST, BodyFraming::Chunked, None),
        ] {
            let request = made(method.clone(), upload, true);
            let said = request.headers().get(header::CONTENT_LENGTH);
            assert_eq!(said.map(|value| value.to_str().unwrap()), length, "{method} {upload:?}");
        }
    }

    #[test]
    fn target_that_is_no_path_is_refused() {
        assert!(request(&Method::GET, "/a b", std::iter::empty(), BodyFraming::None, true).is_err());
    }
}
