//! Names of fields and of their values as people read them.

use crate::sinks::ledger::By;
use crate::sinks::ledger::output::numbers::name;

/// The longest name that is shown whole.
const MOST_SHOWN: usize = 80;

/// The name of a field, with a capital.
pub(super) fn field_name(by: By) -> String {
    match by {
        By::Tag(name) => capital(name.as_str()),
        by => capital(by.as_str()),
    }
}

/// The name of several values of a field.
pub(super) fn fields_name(by: By) -> String {
    match by {
        By::Tag(name) => capital(name.as_str()),
        by => format!("{}s", capital(by.as_str())),
    }
}

/// A name that clients chose: without invisible characters, and not longer than the page can bear.
pub(super) fn shown(text: &str) -> String {
    let text = name(text);
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The text with a capital.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_hidden_names_cannot_break_the_page() {
        assert_eq!(shown("ada\u{202e}x"), "ada\u{fffd}x");
        assert_eq!(shown(&"ü".repeat(500)).chars().count(), MOST_SHOWN + 1);
        assert_eq!(shown("مستخدم"), "مستخدم");
        assert_eq!(fields_name(By::User), "Users");
    }
}
