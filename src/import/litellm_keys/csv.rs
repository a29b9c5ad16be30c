//! Comma-separated values with a header, as RFC 4180 has them.

use serde_json::{Map, Value};

/// The rows by the names of their columns. An empty field is null.
///
/// # Errors
/// Fails if a row has another number of fields than the header, or if a quote is not closed.
pub(super) fn rows(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let mut records = records(text)?.into_iter();
    let header = records.next().unwrap_or_default();
    let row = |(index, fields): (usize, Vec<String>)| {
        if fields.len() != header.len() {
            let (has, wanted) = (fields.len(), header.len());
            return Err(format!("has {has} fields in row {}, and {wanted} columns", index + 2));
        }
        let value = |field: String| if field.is_empty() { Value::Null } else { Value::String(field) };
        Ok(header.iter().cloned().zip(fields.into_iter().map(value)).collect())
    };
    records.enumerate().map(row).collect()
}

fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut is_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() => is_quoted = true,
            ',' if !is_quoted => record.push(std::mem::take(&mut field)),
            '\r' if !is_quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("has a quote that is not closed".to_owned());
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    records.retain(|record| record.len() > 1 || record.iter().any(|field| !field.is_empty()));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_quotes_commas_and_lines() {
        let records = records("a,\"b,\"\"c\"\"\nd\",\r\n,x,\"\"\n\nlast,1,2").unwrap();
        assert_eq!(records, [vec!["a", "b,\"c\"\nd", ""], vec!["", "x", ""], vec!["last", "1", "2"]]);
        assert_eq!(rows("").unwrap(), []);
    }

    #[test]
    fn row_with_another_number_of_fields_is_refused() {
        assert_eq!(rows("a,b\n1\n").unwrap_err(), "has 1 fields in row 2, and 2 columns");
        assert_eq!(rows("a,b\n\"1,2").unwrap_err(), "has a quote that is not closed");
    }
}
