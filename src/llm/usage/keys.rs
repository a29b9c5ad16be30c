//! The keys that lead to wanted values.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    #[default]
    Other,
    Usage,
    Model,
    Type,
    Object,
    Response,
    Session,
    Message,
    Choices,
    XGroq,
    Error,
    Code,
    Status,
    Id,
    Background,
    Timings,
    Fingerprint,
    Delta,
    /// Content of a whole event.
    EventContent,
    /// Content of a choice or delta.
    Text,
    Content,
    Reasoning,
    Refusal,
    ToolCalls,
    FunctionCall,
    Function,
    Name,
    Arguments,
    PartialJson,
    Input,
    Output,
    Summary,
    Item,
    ServiceTier,
    Action,
    ToolUsage,
    WebSearch,
    NumRequests,
    Interaction,
    UsageMetadata,
    ModelVersion,
    Meta,
    Candidates,
    PartList,
    Index,
    FinishReason,
    /// Other content of a delta.
    DeltaContent,
}

impl Key {
    /// The longest known key.
    pub(super) const LIMIT: usize = 32;

    /// Returns true if a repeated key discards what its first value contained. Plain values replace
    /// each other anyway.
    #[inline]
    pub(super) fn is_forgotten(self) -> bool {
        matches!(
            self,
            Key::Action
                | Key::Choices
                | Key::Delta
                | Key::Error
                | Key::FinishReason
                | Key::Index
                | Key::Interaction
                | Key::Item
                | Key::Message
                | Key::Output
                | Key::Response
                | Key::Session
                | Key::ToolUsage
                | Key::WebSearch
                | Key::XGroq
        )
    }

    pub(super) fn from_text(text: &[u8]) -> Key {
        match text {
            b"usage" => Key::Usage,
            b"model" => Key::Model,
            b"type" => Key::Type,
            b"object" => Key::Object,
            b"response" => Key::Response,
            b"session" => Key::Session,
            b"message" => Key::Message,
            b"choices" => Key::Choices,
            b"x_groq" => Key::XGroq,
            b"error" => Key::Error,
            b"code" => Key::Code,
            b"delta" => Key::Delta,
            b"status" => Key::Status,
            b"id" => Key::Id,
            b"background" => Key::Background,
            b"timings" => Key::Timings,
            b"system_fingerprint" => Key::Fingerprint,
            b"text" => Key::Text,
            b"content" => Key::Content,
            b"reasoning_content" | b"reasoning" | b"thinking" => Key::Reasoning,
            b"refusal" => Key::Refusal,
            b"tool_calls" => Key::ToolCalls,
            b"function_call" => Key::FunctionCall,
            b"function" => Key::Function,
            b"name" => Key::Name,
            b"arguments" => Key::Arguments,
            b"partial_json" => Key::PartialJson,
            b"input" => Key::Input,
            b"output" => Key::Output,
            b"summary" => Key::Summary,
            b"item" => Key::Item,
            b"service_tier" => Key::ServiceTier,
            b"action" => Key::Action,
            b"tool_usage" => Key::ToolUsage,
            b"web_search" => Key::WebSearch,
            b"num_requests" => Key::NumRequests,
            b"interaction" => Key::Interaction,
            b"usageMetadata" => Key::UsageMetadata,
            b"modelVersion" => Key::ModelVersion,
            b"meta" => Key::Meta,
            b"candidates" => Key::Candidates,
            b"parts" => Key::PartList,
            b"index" => Key::Index,
            b"finish_reason" => Key::FinishReason,
            b"audio" | b"b64_json" | b"partial_image_b64" => Key::EventContent,
            b"reasoning_details" | b"images" | b"step_details" => Key::DeltaContent,
            _ => Key::Other,
        }
    }
}
