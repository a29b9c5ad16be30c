//! A piece of a response in the service's form, with names in angle brackets for values.
//!
//! The templates in `shapes` are parsed once; writing one is a sequence of copies. No template
//! contains another `<`.

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template(Vec<Part>);

/// Literal text, or the place of a value.
#[derive(Debug)]
pub(super) enum Part {
    Literal(&'static str),
    Mark(Mark),
}

/// The values that templates can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    /// The number of the response, 24 hexadecimal digits.
    Id,
    /// The time when the response was begun, in seconds since 1970.
    Created,
    /// The model's name, escaped for JSON, without quotes.
    Model,
    /// The text of this event.
    Text,
    /// The text of the whole response.
    All,
    /// The number of this event.
    Sequence,
    /// `,"usage":…`, or nothing.
    Usage,
    /// `,"stamp":…`, or nothing.
    Stamp,
    /// The reason in `finish_reason`.
    Finish,
    /// The reason in `stop_reason`.
    Stop,
    /// `completed` or `incomplete`.
    Status,
    /// `incomplete_details`: null or an object.
    Incomplete,
    Input,
    Output,
    Total,
    Cached,
    Reasoning,
}

impl Template {
    /// Parses a template.
    ///
    /// # Panics
    /// Panics if a name is unknown or a bracket is not closed: templates are constants, and a test
    /// reads them all.
    pub(super) fn new(text: &'static str) -> Self {
        let mut parts = Vec::new();
        let mut pieces = text.split('<');
        parts.extend(pieces.next().map(Part::Literal));
        for piece in pieces {
            let (name, literal) = piece.split_once('>').expect("a bracket is closed");
            parts.push(Part::Mark(Mark::named(name)));
            parts.push(Part::Literal(literal));
        }
        parts.retain(|part| !matches!(part, Part::Literal("")));
        Self(parts)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Returns true if the template has a place for the mark.
    #[cfg(test)]
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Mark(found) if *found == mark))
    }
}

impl Mark {
    fn named(name: &str) -> Self {
        match name {
            "id" => Self::Id,
            "created" => Self::Created,
            "model" => Self::Model,
            "text" => Self::Text,
            "all" => Self::All,
            "sequence" => Self::Sequence,
            "usage" => Self::Usage,
            "stamp" => Self::Stamp,
            "finish" => Self::Finish,
            "stop" => Self::Stop,
            "status" => Self::Status,
            "incomplete" => Self::Incomplete,
            "input" => Self::Input,
            "output" => Self::Output,
            "total" => Self::Total,
            "cached" => Self::Cached,
            "reasoning" => Self::Reasoning,
            _ => panic!("a template has <{name}>, which is no value"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_brackets_are_places() {
        let template = Template::new("<id>a<model><text>b");
        let found: Vec<_> = template
            .parts()
            .iter()
            .map(|part| match part {
                Part::Literal(text) => (*text).to_owned(),
                Part::Mark(mark) => format!("{mark:?}"),
            })
            .collect();
        assert_eq!(found, ["Id", "a", "Model", "Text", "b"]);
        assert!(template.has(Mark::Model) && !template.has(Mark::Usage));
    }
}
