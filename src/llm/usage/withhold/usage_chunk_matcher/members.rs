//! Decides whether an event's JSON object has members that its client would miss.

use crate::llm::usage::json::{Grammar, Kind, Outline};

/// The longest key that matters.
const KEY_LIMIT: usize = 32;

/// Members that are part of a response or report its failure, wherever they stand: an event with
/// one that is not null passes, whatever usage it has. All others (`metrics`, `timings`, `cost`,
/// those of every chunk) accompany the usage and are withheld with it.
pub(crate) const RESPONSE_MEMBERS: [&[u8]; 24] = [
    b"annotations",
    b"audio",
    b"b64_json",
    b"citations",
    b"content",
    b"content_filter_result",
    b"content_filter_results",
    b"data",
    b"delta",
    b"detail",
    b"error",
    b"images",
    b"item",
    b"message",
    b"moderation",
    b"moderations",
    b"output",
    b"prompt_filter_results",
    b"response",
    b"search_results",
    b"sources",
    b"text",
    b"tool_calls",
    // Groq's, which contains the request's id.
    b"x_groq",
];

/// The members so far.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Nesting depth of values, scalars included.
    depth: usize,
    in_key: bool,
    /// The last key as spelled, until its value begins.
    key: Vec<u8>,
    /// Inside `choices`.
    in_choices: bool,
    /// The depth of a choice's own usage, while inside of it.
    own_usage: Option<usize>,
    /// Bytes of the current string in a choice, quotes included.
    string: Option<usize>,
    usage: bool,
    /// A choice has a role or an empty text, which is not content.
    is_hollow: bool,
    /// The object has a member that the client would miss.
    is_another: bool,
}

impl Members {
    pub(super) fn push(&mut self, bytes: &[u8], grammar: &mut Grammar) {
        let mut piece = Piece { bytes, from: 0, members: self };
        grammar.push(bytes, &mut piece);
        if piece.members.in_key {
            piece.read_key(bytes.len());
        }
        piece.read_string(bytes.len());
        // With its closing quote the string would have ended.
        self.is_another |= self.string.is_some_and(|length| length > 1);
    }

    /// Returns true if this is known to be another event.
    pub(super) fn rule_out(&self) -> bool {
        self.is_another
    }

    /// Returns true if the complete members are those of the usage-only chunk. A role or an empty
    /// text may begin a response; with `has_content` it has begun already.
    pub(super) fn are_usage_only(&self, has_content: bool) -> bool {
        self.usage && !self.is_another && (has_content || !self.is_hollow)
    }

    /// A member begins; `is_null` is exact for scalars only.
    fn member(&mut self, kind: Kind, is_null: bool) {
        match (&self.key[..], kind) {
            (b"choices", Kind::Array) => self.in_choices = true,
            (b"usage", Kind::Object) => self.usage = true,
            (b"usage", _) => self.is_another = true,
            (key, _) if key == b"choices" || RESPONSE_MEMBERS.contains(&key) => self.is_another |= !is_null,
            _ => {}
        }
    }

    /// A value in `choices` begins at this depth. Returns true for a string, which is judged at its
    /// end.
    fn in_choice(&mut self, depth: usize, kind: Kind, first: u8) -> bool {
        match kind {
            Kind::Object if depth == CHOICE && self.key == b"usage" => self.own_usage = Some(depth),
            Kind::Scalar if depth == CHOICE && self.key == b"index" => {}
            Kind::Scalar if depth == DELTA && self.key == b"role" => self.is_hollow |= first != b'n',
            Kind::Scalar if first == b'"' => return true,
            // Neither null nor false.
            Kind::Scalar => self.is_another |= !matches!(first, b'n' | b'f'),
            _ => {}
        }
        false
    }
}

/// The depth of a choice's members, and of its delta's.
const CHOICE: usize = 3;
const DELTA: usize = 4;

/// A piece of the object, and the members read from it.
struct Piece<'a> {
    bytes: &'a [u8],
    /// The offset in the piece at which the current key or string begins or continues.
    from: usize,
    members: &'a mut Members,
}

impl Piece<'_> {
    /// The key continues to `to`. A key that is too long keeps one byte beyond the limit.
    fn read_key(&mut self, to: usize) {
        let room = (KEY_LIMIT + 1).saturating_sub(self.members.key.len());
        self.members.key.extend(self.bytes[self.from..to].iter().take(room));
    }

    /// The current string, if any, continues to `to`.
    fn read_string(&mut self, to: usize) {
        if let Some(length) = &mut self.members.string {
            *length += to - self.from;
        }
    }
}

impl Outline for Piece<'_> {
    fn key(&mut self, at: usize) {
        let Members { depth, in_choices, .. } = *self.members;
        if depth == 1 || in_choices && matches!(depth, CHOICE | DELTA) {
            self.members.in_key = true;
            self.members.key.clear();
            self.from = at;
        }
    }

    fn key_end(&mut self, at: usize) {
        if self.members.in_key {
            self.read_key(at);
            self.members.in_key = false;
        }
    }

    fn value(&mut self, at: usize, kind: Kind) {
        let (members, first) = (&mut *self.members, self.bytes[at]);
        match members.depth {
            0 => members.is_another |= kind != Kind::Object,
            1 => members.member(kind, first == b'n'),
            depth => {
                let is_read = members.in_choices && members.own_usage.is_none();
                if is_read && members.in_choice(depth, kind, first) {
                    members.string = Some(0);
                    self.from = at;
                }
            }
        }
        members.key.clear();
        members.depth += 1;
    }

    fn value_end(&mut self, at: usize) {
        self.read_string(at);
        let members = &mut *self.members;
        members.depth -= 1;
        if let Some(length) = members.string.take() {
            members.is_hollow |= length == 2;
            members.is_another |= length != 2;
        }
        members.in_choices &= members.depth > 1;
        if members.own_usage == Some(members.depth) {
            members.own_usage = None;
        }
    }
}
