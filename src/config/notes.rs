//! The results of reading besides the values: mistakes, warnings, and the keys that exist.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::files::{Files, SecretText};
use super::key_path::KeyPath;
use super::kind::{Presence, Shape};
use super::layers::{Layers, Rank, VARIABLE_RANK};
use super::mistakes::{Mistake, Mistakes};
use super::price_file::{self, LoadedPrices};
use super::settings::StoredKey;
use super::stored_keys;
use super::suggest::suggest;

/// Proof that a mistake has been reported, so that its holder reports nothing more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted(());

/// A value, or the proof of a reported mistake.
pub(super) type Read<T> = Result<T, Noted>;

/// Keys by their form, in which `NAME` replaces a name that the user chooses.
pub(super) type Asked = BTreeMap<KeyPath, (Shape, Presence)>;

#[derive(Default)]
pub(super) struct Notes {
    mistakes: RefCell<Vec<(Rank, Mistake)>>,
    warnings: RefCell<Vec<(Rank, String)>>,
    /// Keys in the file that no section requested, with their form.
    unknown: RefCell<Vec<(KeyPath, KeyPath)>>,
    asked: RefCell<Asked>,
    /// The files of secrets.
    files: RefCell<Files>,
    /// The keys of secrets from variables of the environment, with the variables' names.
    variables: RefCell<Vec<(KeyPath, String)>>,
}

impl Notes {
    /// The notes of a reading that continues from `files`.
    pub(super) fn after(files: Files) -> Self {
        Self { files: RefCell::new(files), ..Self::default() }
    }

    pub(super) fn mistake(&self, layers: &Layers, path: &KeyPath, reason: impl Into<String>) -> Noted {
        let mistake = Mistake { place: layers.place(path), reason: reason.into() };
        self.mistakes.borrow_mut().push((layers.rank(path), mistake));
        Noted(())
    }

    /// Reports a mistake of a variable that is not a key, once, even if several upstreams meet it.
    pub(super) fn variable_mistake(&self, variable: &str, reason: String) -> Noted {
        let mistake = Mistake { place: format!("environment {variable}"), reason };
        let mut mistakes = self.mistakes.borrow_mut();
        if !mistakes.iter().any(|(_, known)| *known == mistake) {
            mistakes.push((VARIABLE_RANK, mistake));
        }
        Noted(())
    }

    /// Adds a mistake in a file that the key names.
    pub(super) fn mistake_in_file(&self, layers: &Layers, key: &KeyPath, mistake: Mistake) -> Noted {
        self.mistakes.borrow_mut().push((layers.rank(key), mistake));
        Noted(())
    }

    /// Adds a warning about a file that the key names.
    pub(super) fn warning_in_file(&self, layers: &Layers, key: &KeyPath, warning: String) {
        self.warnings.borrow_mut().push((layers.rank(key), warning));
    }

    pub(super) fn warning(&self, layers: &Layers, path: &KeyPath, reason: &str) {
        self.warnings.borrow_mut().push((layers.rank(path), format!("{}: {reason}", layers.place(path))));
    }

    pub(super) fn ask(&self, form: KeyPath, shape: Shape, presence: Presence) {
        self.asked.borrow_mut().entry(form).or_insert((shape, presence));
    }

    pub(super) fn read_secret(&self, path: &Path) -> io::Result<SecretText> {
        self.files.borrow_mut().read_secret(path)
    }

    pub(super) fn load_keys(&self, path: &Path) -> Result<Vec<StoredKey>, Mistakes> {
        stored_keys::load(path, &mut self.files.borrow_mut())
    }

    pub(super) fn load_prices(&self, path: &Path, upstreams: &[String]) -> LoadedPrices {
        price_file::load(path, upstreams, &mut self.files.borrow_mut())
    }

    pub(super) fn variable(&self, key: KeyPath, name: &str) {
        let mut variables = self.variables.borrow_mut();
        let variable = (key, name.to_owned());
        if !variables.contains(&variable) {
            variables.push(variable);
        }
    }

    pub(super) fn variables(&self) -> Vec<(KeyPath, String)> {
        self.variables.borrow().clone()
    }

    pub(super) fn files(&self) -> Files {
        self.files.borrow().clone()
    }

    pub(super) fn unknown(&self, path: KeyPath, form: KeyPath) {
        self.unknown.borrow_mut().push((path, form));
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked.borrow().clone()
    }

    /// The value and the warnings, or all mistakes in their order, including those of variables'
    /// names.
    pub(super) fn finish<T>(
        self,
        layers: &Layers,
        value: Read<T>,
        variables: Vec<Mistake>,
    ) -> Result<(T, Vec<String>), Mistakes> {
        for (path, form) in self.unknown.take() {
            let reason = match self.meant(&form) {
                Some(meant) => format!("unknown key; did you mean {meant}?"),
                None => "unknown key".to_owned(),
            };
            self.mistake(layers, &path, reason);
        }
        let mut mistakes = self.mistakes.into_inner();
        mistakes.extend(variables.into_iter().map(|mistake| (VARIABLE_RANK, mistake)));
        mistakes.sort_by_key(|(rank, _)| *rank);
        match value {
            Ok(value) if mistakes.is_empty() => {
                let mut warnings = self.warnings.into_inner();
                warnings.sort_by_key(|(rank, _)| *rank);
                Ok((value, warnings.into_iter().map(|(_, warning)| warning).collect()))
            }
            _ => Err(Mistakes(mistakes.into_iter().map(|(_, mistake)| mistake).collect())),
        }
    }

    /// The known key for which an unknown one was probably meant: one of the same table, or the
    /// same key of other tables.
    fn meant(&self, form: &KeyPath) -> Option<String> {
        let asked = self.asked.borrow();
        let word = form.last()?;
        let siblings = asked.keys().filter(|path| path.parent() == form.parent());
        if let Some(key) = suggest(word, siblings.filter_map(KeyPath::last)) {
            return Some(format!("`{key}`"));
        }
        let elsewhere: Vec<_> =
            asked.keys().filter(|path| path.last() == Some(word)).map(|path| format!("`{path}`")).collect();
        (1..=MOST_MEANT).contains(&elsewhere.len()).then(|| elsewhere.join(" or "))
    }
}

/// The largest number of tables of a key that is suggested.
const MOST_MEANT: usize = 2;
