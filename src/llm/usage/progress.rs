//! The findings of a stream's meter in one push.

/// The content of one push. Offsets are those in the pushed slice, without `skipped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Leading bytes before the stream's first significant one, which were not passed to the meter.
    /// All other offsets count from their end.
    pub skipped: usize,
    /// Events that ended.
    pub events: u32,
    /// Contains the stream's first event with text, reasoning or arguments of a tool call.
    pub first_token: bool,
    /// Contains the event behind which nothing can begin the response: the first one with such
    /// output or a finish reason.
    pub begins: bool,
    /// The offset at which that event begins, as in [`Progress::usage_at`].
    pub begins_at: usize,
    /// Contains an event that ends the stream.
    pub terminal: bool,
    /// Contains an event with a top-level `usage` object.
    pub usage: bool,
    /// The offset at which the first such event's block begins; 0 if it began in an earlier slice.
    pub usage_at: usize,
    /// The offset behind the first blank line; 0 if there is none.
    pub first_end: usize,
    /// The offset behind the last blank line. An unfinished event or nothing follows.
    pub last_end: usize,
    /// The body is not an event stream.
    pub is_other: bool,
    /// Contains an event of llama.cpp's server.
    pub is_llama_cpp: bool,
}

impl Progress {
    /// Adds the next push.
    pub fn add(&mut self, next: Self) {
        self.events += next.events;
        self.first_token |= next.first_token;
        self.terminal |= next.terminal;
    }
}
