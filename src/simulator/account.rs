//! Accounts that refuse each other's ids, as those of a service do.
//!
//! All ids of an account contain its tag, so that it recognizes the ids of another one. A simulator
//! without a name accepts any id in a body.

use serde_json::Value;

use super::error::Failure;

/// The bits of a number below the tag.
const NUMBER_BITS: u32 = 44;
/// The highest bit of a tag. Tags have five hexadecimal digits, of which the first is not 0.
const TAG_TOP: u64 = 0x8_0000;

/// The places of the tag in the 24 hexadecimal digits of an id: of a number alone, and of a number
/// before an index of four digits.
const TAG_PLACES: [usize; 2] = [8, 4];

/// The beginning of encrypted content.
const ENCRYPTED: &str = "gAAAAA";

/// Types of items that refer to stored state.
const REFERENCES: [&str; 2] = ["item_reference", "reasoning"];

/// The account whose state a simulator keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// 0: none.
    tag: u64,
}

impl Account {
    pub(super) fn new(name: &str) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self { tag: TAG_TOP | (hash >> 20) & (TAG_TOP - 1) }
    }

    pub(super) fn is_named(self) -> bool {
        self.tag != 0
    }

    /// The number in the ids of a request's response.
    pub(super) fn number(self, number: u64) -> u64 {
        self.tag << NUMBER_BITS | number
    }

    /// Content that only this account can decrypt.
    pub(super) fn encrypted(self, number: u64) -> String {
        format!("{ENCRYPTED}{:05x}{number:048x}", self.tag)
    }

    /// Checks the ids in a request's body.
    ///
    /// # Errors
    /// Fails as OpenAI does if an id is not this account's.
    pub(super) fn check(self, body: &Value) -> Result<(), Failure> {
        if let Some(id) = body["previous_response_id"].as_str().filter(|id| !self.has_made(id)) {
            let message = format!("Previous response with id '{id}' not found.");
            let code = Some("previous_response_not_found");
            return Err(Failure::parameter("previous_response_id", code, message));
        }
        let conversation = body["conversation"].as_str().or(body["conversation"]["id"].as_str());
        if let Some(id) = conversation.filter(|id| !self.has_made(id)) {
            return Err(Failure::no_such_object(
                "conversation",
                format!("Conversation with id '{id}' not found."),
            ));
        }
        for list in ["input", "messages"] {
            body[list].as_array().into_iter().flatten().try_for_each(|item| self.check_item(item))?;
        }
        Ok(())
    }

    pub(super) fn check_item(self, item: &Value) -> Result<(), Failure> {
        if let Some(content) = item["encrypted_content"].as_str() {
            let tag = content.strip_prefix(ENCRYPTED).and_then(|rest| rest.get(..5));
            return if tag.is_some_and(|tag| self.is_tag(tag)) {
                Ok(())
            } else {
                let message = format!(
                    "The encrypted content {}... could not be verified. Reason: Encrypted content could not be \
                     decrypted or parsed.",
                    content.chars().take(8).collect::<String>()
                );
                Err(Failure::parameter("input", Some("invalid_encrypted_content"), message))
            };
        }
        let is_reference = item["type"].as_str().is_some_and(|kind| REFERENCES.contains(&kind));
        if let Some(id) = item["id"].as_str().filter(|id| is_reference && !self.has_made(id)) {
            return Err(Failure::no_such_object("input", format!("Item with id '{id}' not found.")));
        }
        for part in item["content"].as_array().into_iter().flatten() {
            let id = part["file_id"].as_str().or(part["file"]["file_id"].as_str());
            if let Some(id) = id.filter(|id| !self.has_made(id)) {
                return Err(Failure::no_such_object("file_id", format!("No such File object: {id}")));
            }
        }
        Ok(())
    }

    /// Returns true if the id has this account's tag.
    fn has_made(self, id: &str) -> bool {
        let digits = id.rsplit(['_', '-']).next().unwrap_or_default();
        TAG_PLACES.iter().filter_map(|&at| digits.get(at..at + 5)).any(|tag| self.is_tag(tag))
    }

    fn is_tag(self, text: &str) -> bool {
        u64::from_str_radix(text, 16) == Ok(self.tag)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn accounts_refuse_each_others_ids() {
        let (one, other) = (Account::new("one"), Account::new("other"));
        let number = one.number(7);
        let (response, item) = (format!("resp_{number:024x}"), format!("rs_{number:020x}0001"));
        let encrypted = one.encrypted(number);
        for (body, code) in [
            (json!({"previous_response_id": response}), Some("previous_response_not_found")),
            (json!({"conversation": {"id": response}}), None),
            (json!({"input": [{"type": "item_reference", "id": item}]}), None),
            (
                json!({"input": [{"type": "reasoning", "encrypted_content": encrypted}]}),
                Some("invalid_encrypted_content"),
            ),
            (json!({"input": [{"content": [{"type": "input_file", "file_id": response}]}]}), None),
        ] {
            assert!(one.check(&body).is_ok(), "{body}");
            let failure = other.check(&body).unwrap_err();
            assert_eq!(
                failure.as_json(super::super::place::Dialect::OpenAi)["error"]["code"],
                json!(code),
                "{body}"
            );
        }
        let inline =
            json!({"input": [{"type": "message", "id": item, "role": "assistant", "content": "hi"}]});
        assert!(other.check(&inline).is_ok() && other.check(&json!({"input": "hi"})).is_ok());
    }
}
