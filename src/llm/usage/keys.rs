//! The keys that lead to wanted values.

use super::words::{listed, spelled};

listed! {
    /// A key that leads to a wanted value.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) enum Key {
        #[default]
        Other,
        Usage,
        Model,
        Type,
        /// The type of an event of Cohere's version 1.
        EventType,
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
        EventId,
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
        StatusDetails,
        Detail,
        Candidates,
        PartList,
        Index,
        FinishReason,
        /// Other content of a delta.
        DeltaContent,
    }
}

impl Key {
    /// The number of bytes of a key that are read.
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
        let key = spelled!(text,
            2: [
                b"id" => Key::Id,
            ]
            4: [
                b"type" => Key::Type,
                b"code" => Key::Code,
                b"text" => Key::Text,
                b"name" => Key::Name,
                b"item" => Key::Item,
                b"meta" => Key::Meta,
            ]
            5: [
                b"usage" => Key::Usage,
                b"model" => Key::Model,
                b"error" => Key::Error,
                b"delta" => Key::Delta,
                b"input" => Key::Input,
                b"parts" => Key::PartList,
                b"index" => Key::Index,
                b"audio" => Key::EventContent,
            ]
            6: [
                b"object" => Key::Object,
                b"x_groq" => Key::XGroq,
                b"status" => Key::Status,
                b"output" => Key::Output,
                b"action" => Key::Action,
                b"images" => Key::DeltaContent,
                b"detail" => Key::Detail,
                b"errors" => Key::Detail,
            ]
            7: [
                b"session" => Key::Session,
                b"message" => Key::Message,
                b"choices" => Key::Choices,
                b"timings" => Key::Timings,
                b"content" => Key::Content,
                b"refusal" => Key::Refusal,
                b"summary" => Key::Summary,
            ]
            8: [
                b"response" => Key::Response,
                b"thinking" => Key::Reasoning,
                b"function" => Key::Function,
                b"b64_json" => Key::EventContent,
                b"event_id" => Key::EventId,
            ]
            9: [
                b"reasoning" => Key::Reasoning,
                b"arguments" => Key::Arguments,
            ]
            10: [
                b"background" => Key::Background,
                b"event_type" => Key::EventType,
                b"tool_calls" => Key::ToolCalls,
                b"tool_usage" => Key::ToolUsage,
                b"web_search" => Key::WebSearch,
                b"candidates" => Key::Candidates,
            ]
            11: [
                b"interaction" => Key::Interaction,
            ]
            12: [
                b"partial_json" => Key::PartialJson,
                b"service_tier" => Key::ServiceTier,
                b"num_requests" => Key::NumRequests,
                b"modelVersion" => Key::ModelVersion,
                b"step_details" => Key::DeltaContent,
            ]
            13: [
                b"function_call" => Key::FunctionCall,
                b"usageMetadata" => Key::UsageMetadata,
                b"finish_reason" => Key::FinishReason,
            ]
            14: [
                b"status_details" => Key::StatusDetails,
            ]
            15: [
                b"thinking_blocks" => Key::DeltaContent,
            ]
            17: [
                b"reasoning_content" => Key::Reasoning,
                b"partial_image_b64" => Key::EventContent,
                b"reasoning_details" => Key::DeltaContent,
            ]
            18: [
                b"system_fingerprint" => Key::Fingerprint,
            ]
        );
        key.unwrap_or(Key::Other)
    }
}
