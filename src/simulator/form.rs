//! A `multipart/form-data` body, read whole (RFC 7578).

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

/// The largest number of fields in a form.
const MAX_FIELDS: usize = 1_000;

/// A form.
#[derive(Debug)]
pub(super) struct Form {
    body: Bytes,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: String,
    file_name: Option<String>,
    content: Range<usize>,
}

impl Form {
    /// Reads the body of a request with this `content-type`.
    ///
    /// # Errors
    /// Fails with the mistake, for the user.
    pub(super) fn read(content_type: &str, body: Bytes) -> Result<Self, String> {
        let boundary =
            parameter(content_type, "boundary").filter(|_| content_type.starts_with("multipart/form-data"));
        let boundary = boundary.ok_or("expected multipart/form-data with a boundary")?;
        let delimiter = format!("--{boundary}");
        let finder = memmem::Finder::new(delimiter.as_bytes());
        let mut starts = finder.find_iter(&body);
        let mut at = starts.next().ok_or("the boundary is missing")? + delimiter.len();
        let mut fields = Vec::new();
        for next in starts {
            // A part between two delimiters begins and ends with a line break.
            let part =
                at + 2..next.checked_sub(2).filter(|end| *end >= at + 2).ok_or("a part has no lines")?;
            fields.push(field(&body, part).ok_or("a part has no name")?);
            if fields.len() > MAX_FIELDS {
                return Err(format!("more than {MAX_FIELDS} fields"));
            }
            at = next + delimiter.len();
        }
        if !body[at..].starts_with(b"--") {
            return Err("the last boundary is missing".to_owned());
        }
        Ok(Self { body, fields })
    }

    /// The text of a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        std::str::from_utf8(&self.body[field.content.clone()]).ok()
    }

    /// The name and the content of the first file, under any name with this beginning: `image` is
    /// also `image[]`.
    pub(super) fn file(&self, name: &str) -> Option<(&str, Bytes)> {
        let mut files = self.fields.iter().filter(|field| field.name.starts_with(name));
        let field = files.find(|field| field.file_name.is_some())?;
        Some((field.file_name.as_deref()?, self.body.slice(field.content.clone())))
    }
}

fn field(body: &[u8], part: Range<usize>) -> Option<Field> {
    let head_length = memmem::find(&body[part.clone()], b"\r\n\r\n")?;
    let head = std::str::from_utf8(&body[part.start..part.start + head_length]).ok()?;
    let disposition =
        head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    Some(Field {
        name: parameter(disposition, "name")?.to_owned(),
        file_name: parameter(disposition, "filename").map(str::to_owned),
        content: part.start + head_length + 4..part.end,
    })
}

/// A parameter of a header's value, with or without quotes.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    parameters.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xx\"";

    fn read(body: &str) -> Result<Form, String> {
        Form::read(TYPE, Bytes::copy_from_slice(body.replace('\n', "\r\n").as_bytes()))
    }

    #[test]
    fn fields_and_files_are_found() {
        let form = read(
            "--xx\nContent-Disposition: form-data; name=\"model\"\n\nsim\n--xx\ncontent-disposition: form-data; \
             name=\"image[]\"; filename=\"a.png\"\nContent-Type: image/png\n\nab\n\ncd\n--xx--\n",
        )
        .unwrap();
        assert_eq!((form.text("model"), form.text("prompt")), (Some("sim"), None));
        assert_eq!(form.file("image"), Some(("a.png", Bytes::from("ab\r\n\r\ncd"))));
        assert_eq!(form.file("model"), None);
    }

    #[test]
    fn invalid_form_is_refused() {
        assert!(Form::read("application/json", Bytes::from("{}")).is_err());
        for body in [
            "",
            "--xx",
            "--xx\n",
            "--xx--xx--",
            "--xx\n\n--xx--",
            "--xx\nContent-Disposition: form-data\n\na\n--xx--",
        ] {
            assert!(read(body).is_err(), "{body:?}");
        }
    }
}
