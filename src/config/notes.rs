//! What reading finds out besides the values: mistakes, warnings, keys that nobody asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::key_path::KeyPath;
use super::layers::{Layers, Rank, VARIABLE_RANK};
use super::mistakes::{Mistake, Mistakes};
use super::suggest::suggest;

/// Proof that a mistake has been noted: who holds it has nothing to add.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted(());

/// A value, or a mistake that has been noted.
pub(super) type Read<T> = Result<T, Noted>;

/// What has been found out so far.
#[derive(Default)]
pub(super) struct Notes {
    mistakes: RefCell<Vec<(Rank, Mistake)>>,
    warnings: RefCell<Vec<(Rank, String)>>,
    /// Keys that are there and that nobody asked for, with their form.
    unknown: RefCell<Vec<(KeyPath, KeyPath)>>,
    /// The form of each key that somebody asked for, `NAME` where users choose one.
    known: RefCell<BTreeSet<KeyPath>>,
}

impl Notes {
    pub(super) fn mistake(&self, layers: &Layers, path: &KeyPath, reason: impl Into<String>) -> Noted {
        let mistake = Mistake { place: layers.place(path), reason: reason.into() };
        self.mistakes.borrow_mut().push((layers.rank(path), mistake));
        Noted(())
    }

    /// Notes a mistake of a variable that is no key, once also where several upstreams meet it.
    pub(super) fn variable_mistake(&self, variable: &str, reason: String) -> Noted {
        let mistake = Mistake { place: format!("environment {variable}"), reason };
        let mut mistakes = self.mistakes.borrow_mut();
        if !mistakes.iter().any(|(_, known)| *known == mistake) {
            mistakes.push((VARIABLE_RANK, mistake));
        }
        Noted(())
    }

    pub(super) fn warning(&self, layers: &Layers, path: &KeyPath, reason: &str) {
        self.warnings.borrow_mut().push((layers.rank(path), format!("{}: {reason}", layers.place(path))));
    }

    pub(super) fn known(&self, form: KeyPath) {
        self.known.borrow_mut().insert(form);
    }

    pub(super) fn unknown(&self, path: KeyPath, form: KeyPath) {
        self.unknown.borrow_mut().push((path, form));
    }

    /// Every form that was asked for.
    #[cfg(test)]
    pub(super) fn forms(&self) -> BTreeSet<KeyPath> {
        self.known.borrow().clone()
    }

    /// The value and the warnings, or every mistake in its order, those of variables' names among
    /// them.
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

    /// The known key that an unknown one was meant to be: one of the same table, or the same one of
    /// other tables.
    fn meant(&self, form: &KeyPath) -> Option<String> {
        let known = self.known.borrow();
        let table = |path: &KeyPath| path.outwards().nth(1).unwrap_or_default();
        let siblings = known.iter().filter(|path| table(path) == table(form));
        let word = form.last()?;
        if let Some(key) = suggest(word, siblings.filter_map(KeyPath::last)) {
            return Some(format!("`{key}`"));
        }
        let elsewhere: Vec<_> =
            known.iter().filter(|path| path.last() == Some(word)).map(|path| format!("`{path}`")).collect();
        (1..=MOST_MEANT).contains(&elsewhere.len()).then(|| elsewhere.join(" or "))
    }
}

/// A key of more tables than this says nothing about which one was meant.
const MOST_MEANT: usize = 2;
