//! The contents for the paths.

use bytes::Bytes;

/// The last two events of a stream with `include_usage`.
pub(crate) const LAST_EVENTS: &str = concat!(
    "data: {\"id\":\"chatcmpl-CfoZ1yFRsd0tYyh7kwbAUUK4PGDmR\",\"object\":\"chat.completion.chunk\",\"created\":1764109287,",
    "\"model\":\"gpt-4.1-mini-2025-04-14\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":400,",
    "\"total_tokens\":419,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":",
    "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}\n\n",
    "data: [DONE]\n\n",
);

/// The events of a chat stream, of some 250 bytes each, without end.
pub(crate) fn chat_events() -> impl Iterator<Item = String> {
    const WORDS: [&str; 7] = ["The", " river", " does", " not", " wait", ",\\n", " \\\"measured\\\""];
    WORDS.iter().cycle().map(|word| {
        format!(
            "data: {{\"id\":\"chatcmpl-CfoZ1yFRsd0tYyh7kwbAUUK4PGDmR\",\"object\":\"chat.completion.chunk\",\
             \"created\":1764109287,\"model\":\"gpt-4.1-mini-2025-04-14\",\"service_tier\":\"default\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    })
}

/// A chat completion of 1 KB.
pub(crate) fn completion() -> String {
    let text = "It was the best of times, it was the \\\"worst\\\" of times.\\n".repeat(7);
    format!(
        "{{\"id\":\"chatcmpl-CfoZ1yFRsd0tYyh7kwbAUUK4PGDmR\",\"object\":\"chat.completion\",\"created\":1764109287,\
         \"model\":\"gpt-4.1-mini-2025-04-14\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
         \"content\":\"{text}\",\"refusal\":null,\"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\
         \"usage\":{{\"prompt_tokens\":19,\"completion_tokens\":78,\"total_tokens\":97,\
         \"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\"completion_tokens_details\":\
         {{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}},\
         \"service_tier\":\"default\",\"system_fingerprint\":\"fp_aa8ae26c2d\"}}"
    )
}

/// A chat request of 16 KB; its model comes last, where a search that stops early would not find
/// it.
pub(crate) fn prompt() -> Bytes {
    let line = "It was the best of times, it was the \\\"worst\\\" of times, it was the age of wisdom,\\n";
    let text = line.repeat((16 << 10) / line.len());
    Bytes::from(format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}],\"temperature\":0.2,\"stream\":true,\"model\":\"fast\"}}"
    ))
}
