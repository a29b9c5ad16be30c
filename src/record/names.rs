//! Names from the network that become labels of counters.

use std::collections::HashSet;
use std::sync::Arc;

/// The largest number of names with a label of their own; all others are [`OTHER`]. Otherwise an
/// upstream that responds with a new name each time would fill the memory of the sink that counts.
pub const MAX_NAMES: usize = 256;

/// The length up to which names are compared, in bytes: a client may request a model name of
/// megabytes, and an upstream may repeat it.
const MAX_LENGTH: usize = 256;

/// The label of a name that no upstream has confirmed, and of those beyond [`MAX_NAMES`].
pub const OTHER: &str = "other";

/// The names of models that have been seen, within a bound.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    /// The label for a name. `None`: no upstream has confirmed one.
    pub fn of(&mut self, confirmed: Option<&str>) -> Arc<str> {
        let Some(name) = confirmed else { return OTHER.into() };
        let name = &name[..name.floor_char_boundary(MAX_LENGTH)];
        match self.0.get(name) {
            Some(known) => Arc::clone(known),
            None if self.0.len() < MAX_NAMES => {
                let name = Arc::from(name);
                self.0.insert(Arc::clone(&name));
                name
            }
            None => OTHER.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_many_and_as_long_as_they_may_be() {
        let mut names = Names::default();
        let long = "m".repeat(MAX_LENGTH);
        assert_eq!(*names.of(Some(&format!("{long}1"))), *long);
        assert_eq!(*names.of(Some(&format!("{long}2"))), *long);
        assert_eq!(names.0.len(), 1, "they begin alike");
        for number in 0..MAX_NAMES {
            names.of(Some(&number.to_string()));
        }
        assert_eq!(names.0.len(), MAX_NAMES);
        assert_eq!((&*names.of(Some("0")), &*names.of(Some("new")), &*names.of(None)), ("0", OTHER, OTHER));
    }
}
