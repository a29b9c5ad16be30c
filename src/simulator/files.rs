//! `files`: uploaded files, in memory.

use bytes::Bytes;

use super::error::Failure;
use super::form::Form;
use super::ordered::{Json, object};
use super::store::{Store, number_of};

/// The largest number of files, and their bytes in sum.
const MAX_FILES: usize = 256;
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// All uploaded files.
#[derive(Debug)]
pub(super) struct Files(Store<File>);

#[derive(Debug)]
struct File {
    name: String,
    purpose: String,
    created: u64,
    content: Bytes,
}

impl Default for Files {
    fn default() -> Self {
        Self(Store::new(MAX_FILES, MAX_BYTES))
    }
}

impl Files {
    /// Keeps the file of the form. Its id is derived from `number`.
    pub(super) fn upload(&mut self, number: u64, created: u64, form: &Form) -> Result<Json, Failure> {
        let missing = |param| Failure::parameter(param, None, format!("'{param}' is a required property"));
        let (name, content) = form.file("file").ok_or_else(|| missing("file"))?;
        let purpose = form.text("purpose").ok_or_else(|| missing("purpose"))?;
        // Copied, so that the rest of the form is not kept with it.
        let content = Bytes::copy_from_slice(&content);
        let file = File { name: name.to_owned(), purpose: purpose.to_owned(), created, content };
        let json = file.as_json(number);
        let bytes = file.content.len() + file.name.len() + file.purpose.len();
        self.0.insert(number, file, bytes);
        Ok(json)
    }

    pub(super) fn list(&self) -> Json {
        let ids: Vec<_> = self.0.iter().map(|(number, _)| id(number)).collect();
        let data: Vec<_> = self.0.iter().map(|(number, file)| file.as_json(number)).collect();
        object! { "object": "list", "data": data, "first_id": ids.first(), "last_id": ids.last(), "has_more": false }
    }

    pub(super) fn get(&mut self, id: &str) -> Result<Json, Failure> {
        let (number, file) = self.find(id)?;
        Ok(file.as_json(number))
    }

    pub(super) fn content(&mut self, id: &str) -> Result<Bytes, Failure> {
        Ok(self.find(id)?.1.content.clone())
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Json, Failure> {
        let (number, _) = self.find(id)?;
        self.0.remove(number);
        Ok(object! { "object": "file", "deleted": true, "id": id })
    }

    fn find(&mut self, id: &str) -> Result<(u64, &File), Failure> {
        let number = number_of(id, "file-");
        let file = number.and_then(|number| Some((number, &*self.0.get_mut(number)?)));
        file.ok_or_else(|| Failure::no_such_object("id", format!("No such File object: {id}")))
    }
}

fn id(number: u64) -> String {
    format!("file-{number:024x}")
}

impl File {
    fn as_json(&self, number: u64) -> Json {
        object! {
            "object": "file", "id": id(number), "purpose": self.purpose, "filename": self.name,
            "bytes": self.content.len(), "created_at": self.created, "expires_at": (), "status": "processed",
            "status_details": (),
        }
    }
}
