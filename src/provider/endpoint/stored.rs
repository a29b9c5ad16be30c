//! Whose work an answer reports, and results that a service keeps: they are made by one request and
//! shown to others.

/// Whose work the usage in an answer is, as far as the request tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOwner {
    /// The request's own: it counts.
    Own,
    /// A stored result's: it counts once, in the first answer that has all of it.
    Stored(Stored),
    /// That of earlier requests, with which it was counted.
    Others,
    /// The same, in an answer that passes unread.
    Unread,
}

impl UsageOwner {
    /// Whether the usage may be the request's own.
    pub fn may_be_own(&self) -> bool {
        match self {
            Self::Own => true,
            Self::Stored(stored) => !stored.is_known,
            Self::Others | Self::Unread => false,
        }
    }
}

/// A result that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub kind: StoredKind,
    /// Its id, where the path has it; `None` where the request makes it, and its answer says the
    /// id.
    pub id: Option<String>,
    /// The request is known to want it made in the background, or it shows one. Else only the
    /// answer can say.
    pub is_known: bool,
}

/// What can be stored with usage of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredKind {
    /// A response: in the background only if its request wants that. Any other was counted with its
    /// request.
    Response,
    /// A run of an assistant. It always works in the background.
    Run,
    /// A video, which does too.
    Video,
    /// A batch, which does too. Its usage is that of all its requests, none of which passes here.
    Batch,
}

impl StoredKind {
    /// Whether its usage comes with its own request unless that says otherwise.
    pub fn is_usually_whole(self) -> bool {
        self == Self::Response
    }

    /// The name of which keys are made.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Run => "run",
            Self::Video => "video",
            Self::Batch => "batch",
        }
    }
}
