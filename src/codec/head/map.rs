//! Conversions to the headers of h2 and hyper.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{HeaderField, Headers, SENSITIVE};

impl HeaderField<'_> {
    /// Converts the field to the types of `http`, with its name in lower case. `None` for an
    /// invalid name or value, which no head has.
    pub fn to_pair(self) -> Option<(HeaderName, HeaderValue)> {
        let (name, mut value) =
            HeaderName::from_bytes(self.name()).ok().zip(HeaderValue::from_bytes(self.value()).ok())?;
        value.set_sensitive(self.place.is(SENSITIVE));
        Some((name, value))
    }
}

impl Headers {
    /// Converts the fields to the type of `http`, in which the values of one name are together.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter().filter_map(HeaderField::to_pair) {
            map.append(name, value);
        }
        map
    }
}

impl From<&HeaderMap> for Headers {
    fn from(map: &HeaderMap) -> Self {
        let mut headers = Self::default();
        for (name, value) in map {
            let flags = if value.is_sensitive() { SENSITIVE } else { 0 };
            headers.append_with(name.as_str().as_bytes(), value.as_bytes(), flags);
        }
        headers
    }
}
