//! The owner of the usage in a response, and stored results: one request creates them, others
//! retrieve them.

/// The owner of the usage in a response, as far as the request tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOwner {
    /// The request itself: the usage counts.
    Own,
    /// A stored result: the usage counts once, in the first response that is complete.
    Stored(Stored),
    /// Earlier requests, with which the usage was counted.
    Others,
    /// Earlier requests, in a response that passes unread.
    Unread,
}

impl UsageOwner {
    /// Returns true if the usage may be the request's own.
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
    pub kind: StoredKind,
    /// The id in the path; `None`: the request creates the result, and the response has its id.
    pub id: Option<String>,
    /// The request creates the result in the background, or retrieves one. Otherwise the response
    /// decides.
    pub is_known: bool,
}

/// A kind of result with usage of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredKind {
    /// A response: created in the background only on request. Any other is counted with its
    /// request.
    Response,
    /// A run of an assistant, always in the background.
    Run,
    /// A video, always in the background.
    Video,
    /// A batch, always in the background. Its usage is the sum of its requests, which do not pass
    /// here.
    Batch,
}

impl StoredKind {
    /// Returns true if the usage is in the response to the creating request by default.
    pub fn is_usually_whole(self) -> bool {
        self == Self::Response
    }

    /// The name in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Run => "run",
            Self::Video => "video",
            Self::Batch => "batch",
        }
    }
}
