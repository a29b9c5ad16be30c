//! The verdicts about the keys of a source.

use std::fmt;

use crate::import::yaml::Node;

/// The treatment of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// The result does the same.
    Taken,
    /// The result does nearly the same; the note has the difference.
    Near,
    /// A person must do what the note says.
    ByHand,
    /// There is nothing of the kind here.
    NotHere,
}

impl Treatment {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Near => "near",
            Self::ByHand => "by hand",
            Self::NotHere => "not here",
        }
    }

    /// Returns true if the result lacks something of the source.
    pub fn is_left(self) -> bool {
        matches!(self, Self::ByHand | Self::NotHere)
    }
}

/// The verdict about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The place in the file: `model_list[0].litellm_params.rpm`.
    pub path: String,
    pub line: usize,
    pub verdict: Treatment,
    /// The difference, or the reason; empty if there is none.
    pub note: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, verdict, note } = self;
        write!(f, "{line}: {path}: {}", verdict.as_str())?;
        if note.is_empty() { Ok(()) } else { write!(f, ": {note}") }
    }
}

/// The verdicts so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn taken(&mut self, path: &str, node: &Node) {
        self.add(path, node, Treatment::Taken, "");
    }

    pub(super) fn near(&mut self, path: &str, node: &Node, note: &str) {
        self.add(path, node, Treatment::Near, note);
    }

    pub(super) fn by_hand(&mut self, path: &str, node: &Node, note: &str) {
        self.add(path, node, Treatment::ByHand, note);
    }

    /// A value that is off changes nothing by its absence.
    pub(super) fn not_here(&mut self, path: &str, node: &Node, note: &str) {
        match node.is_off() {
            true => self.taken(path, node),
            false => self.add(path, node, Treatment::NotHere, note),
        }
    }

    fn add(&mut self, path: &str, node: &Node, verdict: Treatment, note: &str) {
        self.0.push(Finding { path: path.to_owned(), line: node.line, verdict, note: note.to_owned() });
    }

    pub(super) fn in_order(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.line);
        self.0
    }
}
