//! Calls of tools that the service runs and bills per call.

use std::fmt;

/// A kind of call billed per use, or a unit that such calls use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// A run of the service's code interpreter.
    CodeInterpreter,
    /// xAI: a search in documents.
    DocumentSearch,
    /// A search in stored files.
    FileSearch,
    /// An image that a tool made, if the service counts them. OpenAI bills their tokens.
    ImageGeneration,
    /// Cohere: a search unit, by which reranking is billed.
    SearchUnits,
    /// xAI: a source used by live search.
    Sources,
    /// A web page that was fetched.
    WebFetch,
    /// A web search. Of the actions of `web_search_call`, only `search` is one.
    WebSearch,
    /// xAI: a search of X.
    XSearch,
}

impl ToolKind {
    /// All kinds, in the order of [`NAMES`].
    const ALL: [Self; KINDS] = [
        Self::CodeInterpreter,
        Self::DocumentSearch,
        Self::FileSearch,
        Self::ImageGeneration,
        Self::SearchUnits,
        Self::Sources,
        Self::WebFetch,
        Self::WebSearch,
        Self::XSearch,
    ];

    /// The name in records and prices.
    pub fn as_str(self) -> &'static str {
        NAMES[self as usize]
    }

    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(|at| Self::ALL[at])
    }

    pub const COUNT: usize = KINDS;

    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// The kind by the key in an object of counts: Anthropic's and OpenRouter's `server_tool_use`,
    /// xAI's `server_side_tool_usage_details`, Mistral's `connectors`.
    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"web_search_requests" | b"web_search_calls" | b"web_search" => Self::WebSearch,
            b"web_fetch_requests" => Self::WebFetch,
            b"file_search_calls" => Self::FileSearch,
            b"code_interpreter_calls" | b"code_execution_requests" | b"code_interpreter" => {
                Self::CodeInterpreter
            }
            b"image_generation_calls" | b"image_generation" => Self::ImageGeneration,
            b"x_search_calls" => Self::XSearch,
            b"document_search_calls" => Self::DocumentSearch,
            _ => return None,
        })
    }

    /// The kind by the type of an output item. Images are billed by their tokens; calls of a
    /// client's functions and of its own MCP servers are not billed.
    pub(super) fn from_item(kind: &[u8]) -> Option<Self> {
        Some(match kind {
            b"web_search_call" => Self::WebSearch,
            b"file_search_call" => Self::FileSearch,
            b"code_interpreter_call" => Self::CodeInterpreter,
            _ => return None,
        })
    }
}

const KINDS: usize = ToolKind::XSearch as usize + 1;

/// The names in alphabetical order, as in the JSON objects that are written elsewhere.
const NAMES: [&str; KINDS] = [
    "code_interpreter",
    "document_search",
    "file_search",
    "image_generation",
    "search_units",
    "sources",
    "web_fetch",
    "web_search",
    "x_search",
];

/// The number of calls by kind. Displays as a JSON object of those above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolCalls([u32; KINDS]);

impl ToolCalls {
    pub fn of(kind: ToolKind, count: u64) -> Self {
        let mut calls = Self::default();
        calls.add(kind, count);
        calls
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The kinds above 0, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        NAMES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    pub fn counts(&self) -> [u32; KINDS] {
        self.0
    }

    pub fn add(&mut self, kind: ToolKind, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let calls = &mut self.0[kind as usize];
        *calls = calls.saturating_add(count);
    }

    /// The sum by kind.
    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, u32::saturating_add)
    }

    /// The maximum by kind.
    pub(super) fn most(self, other: Self) -> Self {
        self.with(other, u32::max)
    }

    /// `other` where `self` is 0.
    pub(super) fn or(self, other: Self) -> Self {
        self.with(other, |here, there| if here > 0 { here } else { there })
    }

    fn with(mut self, other: Self, pick: impl Fn(u32, u32) -> u32) -> Self {
        for (here, there) in self.0.iter_mut().zip(other.0) {
            *here = pick(*here, there);
        }
        self
    }
}

impl fmt::Display for ToolCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, count)) in self.iter().enumerate() {
            write!(f, "{}\"{name}\":{count}", if at > 0 { "," } else { "" })?;
        }
        f.write_str("}")
    }
}

/// The calls of one response, by the three places that report them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Counted by the service, in its usage.
    pub reported: ToolCalls,
    /// Output items that a stream completed.
    pub done: ToolCalls,
    /// Items of an output that is listed whole.
    pub listed: ToolCalls,
}

impl CallCounts {
    /// The service's own count, else the items of the output. A stream has these twice, and some
    /// services omit one of them.
    pub fn total(&self) -> ToolCalls {
        self.reported.or(self.done.most(self.listed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(counts: &[(ToolKind, u64)]) -> ToolCalls {
        let mut calls = ToolCalls::default();
        counts.iter().for_each(|(kind, count)| calls.add(*kind, *count));
        calls
    }

    #[test]
    fn tool_kind_names_round_trip() {
        for kind in ToolKind::ALL {
            assert_eq!(ToolKind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(ToolKind::from_name("web"), None);
    }

    #[test]
    fn tool_calls_display_as_an_object_of_nonzero_counts() {
        assert_eq!(ToolCalls::default().to_string(), "{}");
        let some = calls(&[(ToolKind::FileSearch, 2), (ToolKind::WebSearch, 1), (ToolKind::WebFetch, 0)]);
        assert_eq!(some.to_string(), r#"{"file_search":2,"web_search":1}"#);
        let many = calls(&[(ToolKind::WebSearch, u64::MAX), (ToolKind::WebSearch, 1)]);
        assert_eq!(many.to_string(), r#"{"web_search":4294967295}"#);
    }

    #[test]
    fn total_prefers_the_reported_count_over_output_items() {
        let counts = CallCounts {
            reported: calls(&[(ToolKind::WebSearch, 1)]),
            done: calls(&[(ToolKind::WebSearch, 3), (ToolKind::FileSearch, 2)]),
            listed: calls(&[(ToolKind::FileSearch, 1), (ToolKind::CodeInterpreter, 1)]),
        };
        assert_eq!(counts.total().to_string(), r#"{"code_interpreter":1,"file_search":2,"web_search":1}"#);
    }
}
