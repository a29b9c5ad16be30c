//! The head of a part, which names the field.

/// The known fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Stream,
    User,
    SafetyIdentifier,
}

/// The field of a part with this head. `None` for a file and for a value in a transfer encoding.
pub(super) fn field(head: &[u8]) -> Option<Field> {
    let mut name = None;
    for line in head.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (key, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if key.eq_ignore_ascii_case(b"content-disposition") {
            name = field_name(value);
        } else if key.eq_ignore_ascii_case(b"content-transfer-encoding")
            && !["7bit", "8bit", "binary"].iter().any(|plain| value.eq_ignore_ascii_case(plain.as_bytes()))
        {
            // Deprecated by RFC 7578 section 4.7, and undone by some servers.
            return None;
        }
    }
    match &name?[..] {
        b"model" => Some(Field::Model),
        b"stream" => Some(Field::Stream),
        b"user" => Some(Field::User),
        b"safety_identifier" => Some(Field::SafetyIdentifier),
        _ => None,
    }
}

/// The name in a `Content-Disposition`, unless it is of a file.
fn field_name(disposition: &[u8]) -> Option<Vec<u8>> {
    let kind = disposition.split(|&byte| byte == b';').next()?.trim_ascii();
    if !kind.eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let mut name = None;
    for (key, value) in parameters(&disposition[kind.len()..]) {
        if key.eq_ignore_ascii_case(b"filename") || key.eq_ignore_ascii_case(b"filename*") {
            return None;
        }
        if key.eq_ignore_ascii_case(b"name") {
            name.get_or_insert(value);
        }
    }
    name
}

/// The parameters after a header value: `; name=value; name="value"`.
pub(super) fn parameters(mut text: &[u8]) -> impl Iterator<Item = (&[u8], Vec<u8>)> {
    std::iter::from_fn(move || {
        loop {
            let begin = text.iter().position(|&byte| byte == b';')?;
            text = &text[begin + 1..];
            let end = text.iter().position(|&byte| byte == b'=' || byte == b';')?;
            if text[end] == b'=' {
                let name = text[..end].trim_ascii();
                let value;
                (value, text) = parameter_value(text[end + 1..].trim_ascii_start());
                return Some((name, value));
            }
        }
    })
}

/// A token or a quoted string (RFC 9110 section 5.6.4), and the rest.
fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|&byte| byte == b';').unwrap_or(text.len());
        return (text[..end].trim_ascii().to_vec(), &text[end..]);
    };
    let (mut value, mut bytes) = (Vec::new(), quoted.iter().enumerate());
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return (value, &quoted[at + 1..]),
            b'\\' => value.extend(bytes.next().map(|(_, &escaped)| escaped)),
            _ => value.push(byte),
        }
    }
    (value, b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_name_however_it_is_written() {
        for head in [
            "Content-Disposition: form-data; name=\"model\"\r\n\r\n",
            "content-disposition:form-data;name=model\n\n",
            "CONTENT-DISPOSITION: Form-Data ; NAME = \"mo\\del\"\r\nContent-Type: text/plain\r\n\r\n",
            "content-type: text/plain; name=\"x\"\r\ncontent-disposition: form-data; x; y=\"; name=z\"; name=\"model\"\r\n\r\n",
            "content-transfer-encoding: 8Bit\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n",
        ] {
            assert_eq!(field(head.as_bytes()), Some(Field::Model), "{head}");
        }
        for (name, expected) in [
            ("stream", Some(Field::Stream)),
            ("user", Some(Field::User)),
            ("safety_identifier", Some(Field::SafetyIdentifier)),
            ("Model", None),
            ("models", None),
            ("", None),
        ] {
            let head = format!("content-disposition: form-data; name=\"{name}\"\r\n\r\n");
            assert_eq!(field(head.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn files_and_encoded_values_are_no_fields() {
        for head in [
            "content-disposition: form-data; name=\"model\"; filename=\"a\"\r\n\r\n",
            "content-disposition: form-data; filename*=utf-8''a; name=\"model\"\r\n\r\n",
            "content-disposition: attachment; name=\"model\"\r\n\r\n",
            "content-transfer-encoding: base64\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n",
            "x: y\r\n\r\n",
            "\r\n",
        ] {
            assert_eq!(field(head.as_bytes()), None, "{head}");
        }
    }
}
