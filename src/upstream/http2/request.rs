//! A request's head in the form of HTTP/2.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use crate::h1::Upload;

/// The head whose parts HTTP/1.1 would write as a request line and fields (RFC 9113 section 8.3.1):
/// the scheme and the target as pseudo-headers, `Host` as `:authority`. The headers must have none
/// that is about the connection or the framing. A value that is marked sensitive stays so, and is
/// kept out of the compression table.
///
/// # Errors
/// The target or the host cannot stand in a URI.
pub(in crate::upstream) fn request<'a>(
    method: &Method,
    target: &str,
    headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    upload: Upload,
    is_https: bool,
) -> Result<Request<()>, http::Error> {
    let mut fields = HeaderMap::with_capacity(headers.size_hint().0 + 1);
    let mut parts = http::uri::Parts::default();
    for (name, value) in headers {
        if name == header::HOST {
            parts.authority = Some(Authority::try_from(value.as_bytes())?);
        } else {
            fields.append(name, value.clone());
        }
    }
    let length = match upload {
        Upload::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Some(0),
        Upload::None | Upload::Chunked => None,
        Upload::Length(length) => Some(length),
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

    fn made(method: Method, upload: Upload, is_https: bool) -> Request<()> {
        let mut key = HeaderValue::from_static("Bearer sk");
        key.set_sensitive(true);
        let headers = [
            (header::HOST, HeaderValue::from_static("api.example:8443")),
            (header::ACCEPT, HeaderValue::from_static("a")),
            (header::ACCEPT, HeaderValue::from_static("b")),
            (header::AUTHORIZATION, key),
        ];
        let headers = headers.iter().map(|(name, value)| (name, value));
        request(&method, "/v1/chat?api-version=1", headers, upload, is_https).unwrap()
    }

    #[test]
    fn the_host_becomes_the_authority_and_the_rest_stays_in_its_order() {
        let request = made(Method::POST, Upload::Length(7), true);
        assert_eq!(*request.uri(), "https://api.example:8443/v1/chat?api-version=1");
        let fields = request.headers().iter();
        let names: Vec<_> = fields.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            names,
            [("accept", "a"), ("accept", "b"), ("authorization", "Bearer sk"), ("content-length", "7")]
        );
        assert!(request.headers()[header::AUTHORIZATION].is_sensitive(), "no key in a compression table");
        assert_eq!(made(Method::GET, Upload::None, false).uri().scheme(), Some(&Scheme::HTTP));
    }

    #[test]
    fn a_length_is_said_where_it_is_known_or_expected() {
        for (method, upload, length) in [
            (Method::GET, Upload::None, None),
            (Method::POST, Upload::None, Some("0")),
            (Method::POST, Upload::Length(0), Some("0")),
            (Method::POST, Upload::Chunked, None),
        ] {
            let request = made(method.clone(), upload, true);
            let said = request.headers().get(header::CONTENT_LENGTH);
            assert_eq!(said.map(|value| value.to_str().unwrap()), length, "{method} {upload:?}");
        }
    }

    #[test]
    fn a_target_that_is_no_path_is_refused() {
        assert!(request(&Method::GET, "/a b", std::iter::empty(), Upload::None, true).is_err());
    }
}
