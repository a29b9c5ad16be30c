//! Reads the small fields of a form (`multipart/form-data`, RFC 7578 and RFC 2046 section 5.1)
//! while it passes.
//!
//! The reader takes a body in pieces of any size, and keeps only the head and the value of the
//! current part, if that is a known field. It returns the range of the model's name, so that an
//! alias can be replaced and all other bytes stay. Libraries for forms (`multer`, `multipart-rs`)
//! consume the body and return the parts without their positions, so that the original bytes could
//! not be forwarded.
//!
//! The reader is as liberal as the most liberal server: a line ends with CR LF or LF, a delimiter
//! may be padded, names may be quoted. The first of several equal fields counts, and
//! [`Fields::model_is_duplicate`] is set, since another server may use the last one. A form that
//! ends inside a value has the value so far. A part with a head longer than [`MAX_HEAD`], and a
//! body that is no form, end the reading.

mod boundary;
mod part;

use std::ops::Range;

use memchr::memchr;

pub use boundary::boundary;
use part::Field;

/// The longest head of a part that is read, in bytes.
pub const MAX_HEAD: usize = 8 << 10;

/// The longest value of a field that is read, in bytes.
pub const MAX_VALUE: usize = 1 << 10;

/// The fields read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The model asked for. `None` also for an empty name and one longer than [`MAX_VALUE`].
    pub model: Option<String>,
    /// The range of the model's name in the body. `None` without the field, or if its value is not
    /// known.
    pub model_span: Option<Range<usize>>,
    /// There are several `model` fields.
    pub model_is_duplicate: bool,
    /// `stream` is `true`.
    pub stream: bool,
    user: Option<String>,
    safety_identifier: Option<String>,
    has_model: bool,
}

impl Fields {
    /// The end user that the application names: `safety_identifier`, otherwise `user`.
    pub fn user(&self) -> Option<&str> {
        self.safety_identifier.as_deref().or(self.user.as_deref())
    }

    /// Returns true if a field `model` has been read, with any value.
    pub fn has_model(&self) -> bool {
        self.has_model
    }
}

/// A streaming reader.
#[derive(Debug)]
pub struct Form {
    /// `--` and the boundary.
    delimiter: Box<[u8]>,
    /// The number of bytes read.
    position: usize,
    at: At,
    /// The head of the current part.
    head: Vec<u8>,
    /// The current field, and the position of its value.
    field: Option<(Field, usize)>,
    /// The value, followed by bytes that may be the next delimiter.
    value: Vec<u8>,
    /// The end of the value if a delimiter follows the last line break.
    value_end: usize,
    /// The last byte was a carriage return.
    behind_return: bool,
    fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The position is after a line break and this many bytes of the delimiter.
    Delimiter(usize),
    /// The position is after a delimiter.
    Behind(Rest),
    /// The position is in the head of a part.
    Head,
    /// The position is in the data of a part, or before the first delimiter.
    Data,
    /// The position is after the last delimiter, or after an error: the rest is not read.
    Over,
}

/// The bytes after a delimiter so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// The first of the two hyphens that end a form.
    Hyphen,
    Padding,
    Return,
}

impl Form {
    /// The reader of a form with this [`boundary()`].
    pub fn new(boundary: &[u8]) -> Self {
        Self {
            delimiter: [b"--", boundary].concat().into(),
            position: 0,
            // The first delimiter needs no line break before it.
            at: At::Delimiter(0),
            head: Vec::new(),
            field: None,
            value: Vec::new(),
            value_end: 0,
            behind_return: false,
            fields: Fields::default(),
        }
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        while let (Some(&byte), false) = (bytes.first(), self.at == At::Over) {
            let read = match self.at {
                At::Data => self.data(bytes),
                At::Head => self.head(bytes),
                At::Delimiter(seen) => self.delimiter(byte, seen),
                At::Behind(rest) => self.behind(byte, rest),
                At::Over => return,
            };
            self.position += read;
            bytes = &bytes[read..];
        }
    }

    /// Ends the form, after which a value is complete.
    pub fn end(&mut self) {
        if matches!(self.at, At::Data) {
            self.value_end = self.value.len();
        }
        self.close_field();
        self.at = At::Over;
    }

    /// Skips data up to a line break.
    fn data(&mut self, bytes: &[u8]) -> usize {
        let end = memchr(b'\n', bytes);
        let read = end.map_or(bytes.len(), |end| end + 1);
        let has_return = match end {
            Some(0) => self.behind_return,
            Some(end) => bytes[end - 1] == b'\r',
            None => false,
        };
        self.keep(&bytes[..read]);
        if end.is_some() {
            self.value_end = self.value.len().saturating_sub(1 + usize::from(has_return));
            self.at = At::Delimiter(0);
        }
        self.behind_return = bytes[read - 1] == b'\r';
        read
    }

    /// Reads one byte of a delimiter; none if the bytes are data.
    fn delimiter(&mut self, byte: u8, seen: usize) -> usize {
        if self.delimiter.get(seen) != Some(&byte) {
            return self.no_delimiter();
        }
        self.keep(&[byte]);
        let seen = seen + 1;
        self.at = if seen == self.delimiter.len() { At::Behind(Rest::Nothing) } else { At::Delimiter(seen) };
        1
    }

    /// Reads one byte after a delimiter; none if it was not a delimiter.
    fn behind(&mut self, byte: u8, rest: Rest) -> usize {
        self.at = match (rest, byte) {
            (_, b'\n') if rest != Rest::Hyphen => {
                self.close_field();
                self.head.clear();
                At::Head
            }
            (Rest::Hyphen, b'-') => {
                self.close_field();
                At::Over
            }
            (Rest::Nothing, b'-') => At::Behind(Rest::Hyphen),
            (Rest::Nothing | Rest::Padding, b' ' | b'\t') => At::Behind(Rest::Padding),
            (Rest::Nothing | Rest::Padding, b'\r') => At::Behind(Rest::Return),
            _ => return self.no_delimiter(),
        };
        self.keep(&[byte]);
        1
    }

    fn no_delimiter(&mut self) -> usize {
        self.at = At::Data;
        self.behind_return = false;
        0
    }

    /// Reads lines of a part's head.
    fn head(&mut self, bytes: &[u8]) -> usize {
        let read = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        if self.head.len() + read > MAX_HEAD {
            self.at = At::Over;
            return read;
        }
        self.head.extend_from_slice(&bytes[..read]);
        if self.head.ends_with(b"\n") && ends_with_empty_line(&self.head) {
            self.value.clear();
            self.value_end = 0;
            self.field = part::field(&self.head).map(|field| (field, self.position + read));
            // An empty part may have its delimiter at once.
            self.at = At::Delimiter(0);
        }
        read
    }

    /// Keeps bytes that may belong to a value.
    fn keep(&mut self, bytes: &[u8]) {
        if self.field.is_none() {
            return;
        }
        // The delimiter and its line do not belong to the value.
        if self.value.len() + bytes.len() > MAX_VALUE + self.delimiter.len() + 4 {
            let (field, _) = self.field.take().expect("it was looked at");
            self.value.clear();
            if field == Field::Model {
                self.saw_model(None);
            }
            return;
        }
        self.value.extend_from_slice(bytes);
    }

    /// Stores a complete value.
    fn close_field(&mut self) {
        let Some((field, begin)) = self.field.take() else { return };
        self.value.truncate(self.value_end);
        let value = String::from_utf8_lossy(&self.value).into_owned();
        let named = Some(value).filter(|value| !value.is_empty() && value.len() <= MAX_VALUE);
        match field {
            Field::Model => self.saw_model(Some((named, begin..begin + self.value.len()))),
            Field::Stream => {
                self.fields.stream |= self.value.eq_ignore_ascii_case(b"true") || self.value == b"1"
            }
            Field::User => self.fields.user = self.fields.user.take().or(named),
            Field::SafetyIdentifier => {
                self.fields.safety_identifier = self.fields.safety_identifier.take().or(named);
            }
        }
    }

    fn saw_model(&mut self, model: Option<(Option<String>, Range<usize>)>) {
        let fields = &mut self.fields;
        if std::mem::replace(&mut fields.has_model, true) {
            fields.model_is_duplicate = true;
        } else if let Some((name, span)) = model {
            fields.model = name;
            fields.model_span = Some(span);
        }
    }
}

/// Returns true if the last line of a head, which is complete, is empty.
fn ends_with_empty_line(head: &[u8]) -> bool {
    let lines = head.strip_suffix(b"\n").unwrap_or(head);
    let lines = lines.strip_suffix(b"\r").unwrap_or(lines);
    lines.is_empty() || lines.ends_with(b"\n")
}

#[cfg(test)]
mod tests;
