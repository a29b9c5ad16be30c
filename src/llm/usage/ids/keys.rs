//! The keys under which ids lie.

use super::ESCAPE;

/// The meaning of a key for ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    #[default]
    Other,
    /// `id` of the object.
    Id,
    /// An id, or a list of ids, of another object.
    Refers,
    /// Content that only its account can decrypt.
    Encrypted,
    /// An id of another object, or that object.
    Object,
    /// Another object.
    Holder,
    /// A part of the response that is its own: its object in an event, its output.
    Own,
    /// The items of a request; as an object, the input of a tool, whose keys a model chooses.
    Items,
    Type,
    Role,
    /// Clients or models choose the keys inside.
    Foreign,
}

impl Key {
    /// The longest known key as written, in bytes: each of its characters may be an escape.
    pub(super) const LIMIT: usize = 24 * ESCAPE;

    pub(super) fn from_text(text: &[u8]) -> Self {
        match text {
            b"id" => Self::Id,
            b"previous_response_id"
            | b"response_id"
            | b"conversation_id"
            | b"file_id"
            | b"file_ids"
            | b"input_file_id"
            | b"output_file_id"
            | b"error_file_id"
            | b"training_file"
            | b"validation_file"
            | b"result_files"
            | b"container_id"
            | b"vector_store_id"
            | b"vector_store_ids"
            | b"thread_id"
            | b"assistant_id"
            | b"run_id"
            | b"message_id"
            | b"batch_id"
            | b"upload_id"
            | b"part_ids"
            | b"eval_id"
            | b"skill_id"
            | b"approval_request_id" => Self::Refers,
            b"encrypted_content" => Self::Encrypted,
            b"conversation" | b"container" => Self::Object,
            b"audio" | b"voice" | b"video" => Self::Holder,
            b"response" | b"output" | b"item" => Self::Own,
            b"input" | b"items" => Self::Items,
            b"type" => Self::Type,
            b"role" => Self::Role,
            b"metadata" | b"client_metadata" | b"parameters" | b"arguments" | b"input_schema" | b"schema"
            | b"headers" => Self::Foreign,
            _ => Self::Other,
        }
    }
}
