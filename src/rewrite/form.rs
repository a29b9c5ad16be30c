//! The small fields of a form (`multipart/form-data`, RFC 7578 and RFC 2046 section 5.1), read
//! while it passes.
//!
//! The reader sees the bytes of a body in pieces of any size and keeps none of them but the head
//! and the value of the part it is in, as far as that is a field it knows. It says which bytes the
//! model's name takes up, so that an alias can be replaced and every other byte stays. Libraries
//! for forms (`multer`, `multipart-rs`) take the body for themselves and give out the contents of
//! its parts without their places, so that nothing could be passed on as it came.
//!
//! It reads as the most liberal server does: a line ends with CR LF or LF, a delimiter may be
//! padded, names are in quotes or not. Of a field that stands there several times the first one
//! counts, and [`Fields::model_is_duplicate`] says so: another server may take the last one. A form
//! that breaks off behind the beginning of a value has the value as far as it goes. A part whose
//! head is longer than [`MAX_HEAD`], or that is no form at all, ends the reading: nothing more is
//! known then.

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

/// What a form says, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The model asked for. `None` also for the empty name, and for one that is longer than
    /// [`MAX_VALUE`].
    pub model: Option<String>,
    /// Where the model's name stands in the body. `None` where there is no field of that name, or
    /// its value is not known.
    pub model_span: Option<Range<usize>>,
    /// The field `model` is there more than once.
    pub model_is_duplicate: bool,
    /// `stream` is `true`.
    pub stream: bool,
    user: Option<String>,
    safety_identifier: Option<String>,
    has_model: bool,
}

impl Fields {
    /// The end user that the application names: `safety_identifier`, else `user`.
    pub fn user(&self) -> Option<&str> {
        self.safety_identifier.as_deref().or(self.user.as_deref())
    }

    /// Whether the field `model` has been read, whatever it says.
    pub fn has_model(&self) -> bool {
        self.has_model
    }
}

/// Reads a form.
#[derive(Debug)]
pub struct Form {
    /// `--` and the boundary.
    delimiter: Box<[u8]>,
    /// Bytes that were read.
    position: usize,
    at: At,
    /// The head of the part, up to its end.
    head: Vec<u8>,
    /// The field whose value is read, and where it begins.
    field: Option<(Field, usize)>,
    /// That value, and behind it what may be the next delimiter.
    value: Vec<u8>,
    /// Where the value ends if a delimiter follows the last line break.
    value_end: usize,
    /// The last byte was a carriage return.
    behind_return: bool,
    fields: Fields,
}

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Behind a line break and so many bytes of the delimiter.
    Delimiter(usize),
    /// Behind a delimiter.
    Behind(Rest),
    /// In the head of a part.
    Head,
    /// In its data, or before the first delimiter.
    Data,
    /// Behind the last delimiter, or what follows is not read.
    Over,
}

/// What has come of a delimiter's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// The first hyphen of the two that end a form.
    Hyphen,
    Padding,
    Return,
}

impl Form {
    /// The reader of a form with this [`boundary`].
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

    /// What it says, as far as it was read.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Reads on.
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

    /// There are no more bytes.
    pub fn end(&mut self) {
        if matches!(self.at, At::Data) {
            self.value_end = self.value.len();
        }
        self.close_field();
        self.at = At::Over;
    }

    /// Steps over data up to a line break.
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

    /// Takes one byte of a delimiter, or none if it is not one.
    fn delimiter(&mut self, byte: u8, seen: usize) -> usize {
        if self.delimiter.get(seen) != Some(&byte) {
            return self.no_delimiter();
        }
        self.keep(&[byte]);
        let seen = seen + 1;
        self.at = if seen == self.delimiter.len() { At::Behind(Rest::Nothing) } else { At::Delimiter(seen) };
        1
    }

    /// Takes one byte behind a delimiter, or none if it was not one.
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

    /// Takes lines of a part's head.
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

    /// Keeps what may be a value.
    fn keep(&mut self, bytes: &[u8]) {
        if self.field.is_none() {
            return;
        }
        // The delimiter and its line are no part of the value.
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

    /// The value of the field is complete.
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

/// Whether the last line of a head, which is complete, is empty.
fn ends_with_empty_line(head: &[u8]) -> bool {
    let lines = head.strip_suffix(b"\n").unwrap_or(head);
    let lines = lines.strip_suffix(b"\r").unwrap_or(lines);
    lines.is_empty() || lines.ends_with(b"\n")
}

#[cfg(test)]
mod tests;
