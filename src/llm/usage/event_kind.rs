//! The meaning of events by their name or type.

/// The meaning of an event's type for the meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EventKind {
    #[default]
    Other,
    /// The last event of the stream.
    Terminal,
    Error,
    /// Its usage is merged into the one before it (Anthropic).
    Merge,
    /// One finished image, perhaps of several: its usage is added to the others.
    Picture,
    /// A response of a realtime session begins.
    Begun,
    /// A response of a realtime session ends.
    Done,
    /// A response ends, and with it a stream of its own; a session has several.
    Completed,
    /// The client requests a response in a session.
    Asked,
    /// The input of a realtime session was transcribed.
    Transcribed,
}

impl EventKind {
    /// Returns true if a stream may end after this event.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, EventKind::Terminal | EventKind::Completed | EventKind::Picture)
    }

    /// The kind by the event's name or its `type` member.
    pub(super) fn from_type(word: &[u8]) -> EventKind {
        match word {
            b"response.completed" | b"response.incomplete" | b"response.failed" => EventKind::Completed,
            b"message_stop" | b"transcript.text.done" | b"speech.audio.done" => EventKind::Terminal,
            b"stream-end" => EventKind::Terminal,
            b"image_generation.completed" | b"image_edit.completed" => EventKind::Picture,
            b"error" => EventKind::Error,
            b"response.created" => EventKind::Begun,
            b"response.done" => EventKind::Done,
            b"response.create" => EventKind::Asked,
            b"conversation.item.input_audio_transcription.completed" => EventKind::Transcribed,
            b"message_start" | b"message_delta" => EventKind::Merge,
            _ => EventKind::Other,
        }
    }
}
