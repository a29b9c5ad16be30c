//! `conversations`: items under an id, in memory.

use serde_json::Value;

use super::account::Account;
use super::error::Failure;
use super::ordered::{Json, object};
use super::store::{Store, number_of};

/// The largest number of conversations, and the total bytes of their items.
const MAX_CONVERSATIONS: usize = 1_024;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The largest number of items that one request adds, as at OpenAI.
const MAX_ADDED: usize = 20;

/// The place of the first generated id of an item: outputs have the ones before it.
const GENERATED: usize = 0x8000;

/// The approximate memory of a conversation or an item besides its text.
const ENTRY_BYTES: usize = 256;

/// All conversations.
#[derive(Debug)]
pub(super) struct Conversations(Store<Conversation>);

#[derive(Debug, Default)]
struct Conversation {
    created: u64,
    metadata: Value,
    /// Ids and items, from the oldest on.
    items: Vec<(String, Json)>,
}

impl Default for Conversations {
    fn default() -> Self {
        Self(Store::new(MAX_CONVERSATIONS, MAX_BYTES))
    }
}

impl Conversations {
    /// Keeps a new conversation, whose id is derived from `number`.
    pub(super) fn create(
        &mut self,
        account: Account,
        number: u64,
        created: u64,
        body: &Value,
    ) -> Result<Json, Failure> {
        let mut conversation =
            Conversation { created, metadata: body["metadata"].clone(), ..Conversation::default() };
        conversation.add(account, number, items(body)?)?;
        let json = conversation.as_json(&id(number));
        self.put(number, conversation);
        Ok(json)
    }

    pub(super) fn get(&mut self, id: &str) -> Result<Json, Failure> {
        Ok(self.find(id)?.1.as_json(id))
    }

    pub(super) fn update(&mut self, id: &str, body: &Value) -> Result<Json, Failure> {
        let (key, _) = self.find(id)?;
        self.change(key, |conversation| {
            conversation.metadata = body["metadata"].clone();
            Ok(conversation.as_json(id))
        })
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Json, Failure> {
        let (number, _) = self.find(id)?;
        self.0.remove(number);
        Ok(object! { "id": id, "object": "conversation.deleted", "deleted": true })
    }

    /// The items from the newest to the oldest, the default order of the service.
    pub(super) fn items(&mut self, id: &str) -> Result<Json, Failure> {
        let (_, conversation) = self.find(id)?;
        let all: Vec<_> = conversation.items.iter().rev().collect();
        Ok(list(&all))
    }

    /// Adds the items of a request's body. Their ids are derived from `number`.
    pub(super) fn add(
        &mut self,
        account: Account,
        id: &str,
        number: u64,
        body: &Value,
    ) -> Result<Json, Failure> {
        let (key, _) = self.find(id)?;
        let added = items(body)?;
        self.change(key, |conversation| {
            let begin = conversation.items.len();
            conversation.add(account, number, added)?;
            let added: Vec<_> = conversation.items[begin..].iter().collect();
            Ok(list(&added))
        })
    }

    pub(super) fn item(&mut self, id: &str, item: &str) -> Result<Json, Failure> {
        let (_, conversation) = self.find(id)?;
        let found = conversation.items.iter().find(|(known, _)| known == item);
        found.map(|(_, json)| json.clone()).ok_or_else(|| no_item(item))
    }

    pub(super) fn delete_item(&mut self, id: &str, item: &str) -> Result<Json, Failure> {
        let (key, _) = self.find(id)?;
        self.change(key, |conversation| {
            let place = conversation.items.iter().position(|(known, _)| known == item);
            conversation.items.remove(place.ok_or_else(|| no_item(item))?);
            Ok(conversation.as_json(id))
        })
    }

    /// Adds the input and the output of a response, if the conversation is known.
    pub(super) fn add_turn(&mut self, id: &str, input: &Value, number: u64, output: &Value) {
        let Ok((key, _)) = self.find(id) else { return };
        let input = match input {
            Value::String(text) => {
                let part = serde_json::json!({"type": "input_text", "text": text});
                vec![serde_json::json!({"type": "message", "role": "user", "content": [part]})]
            }
            list => list.as_array().cloned().unwrap_or_default(),
        };
        let output = output.as_array().into_iter().flatten().cloned();
        let _ = self.change(key, |conversation| {
            conversation.push(number, input.into_iter().chain(output));
            Ok(())
        });
    }

    pub(super) fn has(&mut self, id: &str) -> bool {
        self.find(id).is_ok()
    }

    fn find(&mut self, id: &str) -> Result<(u64, &mut Conversation), Failure> {
        let number = number_of(id, "conv_");
        let found = number.and_then(|number| Some((number, self.0.get_mut(number)?)));
        found.ok_or_else(|| missing(id))
    }

    /// Changes a conversation and its size.
    fn change<T>(
        &mut self,
        key: u64,
        act: impl FnOnce(&mut Conversation) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut conversation = self.0.remove(key).unwrap_or_default();
        let result = act(&mut conversation);
        self.put(key, conversation);
        result
    }

    fn put(&mut self, number: u64, conversation: Conversation) {
        let items = conversation.items.iter().map(|(_, json)| json.as_str().len() + ENTRY_BYTES);
        let bytes = items.sum::<usize>() + conversation.metadata.to_string().len() + ENTRY_BYTES;
        self.0.insert(number, conversation, bytes);
    }
}

impl Conversation {
    /// Adds items that a request brings. An item keeps its own id.
    fn add(&mut self, account: Account, number: u64, items: Vec<Value>) -> Result<(), Failure> {
        if items.len() > MAX_ADDED {
            return Err(Failure::invalid(format!("At most {MAX_ADDED} items may be added at a time.")));
        }
        if account.is_named() {
            items.iter().try_for_each(|item| account.check_item(item))?;
        }
        self.push(number, items.into_iter());
        Ok(())
    }

    fn push(&mut self, number: u64, items: impl Iterator<Item = Value>) {
        for (place, mut item) in items.enumerate() {
            let own = item["id"].as_str().map(str::to_owned);
            let id = own.unwrap_or_else(|| format!("msg_{number:020x}{:04x}", GENERATED + place));
            if let Some(item) = item.as_object_mut() {
                item.insert("id".to_owned(), id.as_str().into());
                item.entry("status").or_insert_with(|| "completed".into());
            }
            self.items.push((id, Json::raw(item.to_string())));
        }
    }

    fn as_json(&self, id: &str) -> Json {
        let metadata = if self.metadata.is_object() { self.metadata.to_string() } else { "{}".to_owned() };
        object! {
            "id": id, "object": "conversation", "created_at": self.created, "metadata": Json::raw(metadata),
        }
    }
}

/// The items of a request's body.
fn items(body: &Value) -> Result<Vec<Value>, Failure> {
    match &body["items"] {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items.clone()),
        _ => {
            Err(Failure::parameter("items", None, "Invalid type for 'items': expected an array.".to_owned()))
        }
    }
}

fn list(items: &[&(String, Json)]) -> Json {
    let ids: Vec<_> = items.iter().map(|(id, _)| id.clone()).collect();
    let data: Vec<_> = items.iter().map(|(_, json)| json.clone()).collect();
    object! { "object": "list", "data": data, "first_id": ids.first(), "last_id": ids.last(), "has_more": false }
}

fn id(number: u64) -> String {
    format!("conv_{number:024x}")
}

/// The refusal of an id that is not this account's, or was deleted.
pub(super) fn missing(id: &str) -> Failure {
    Failure::no_such_object("conversation", format!("Conversation with id '{id}' not found."))
}

fn no_item(id: &str) -> Failure {
    Failure::no_such_object("item", format!("Item with id '{id}' not found."))
}
