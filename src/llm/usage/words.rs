//! Macros for enums of words.

/// Declares an enum with `ALL`, its variants in order.
macro_rules! listed {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident { $($(#[$documented:meta])* $variant:ident,)+ }
    ) => {
        $(#[$attribute])*
        $visibility enum $name { $($(#[$documented])* $variant,)+ }

        impl $name {
            $visibility const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];
        }
    };
}

/// The value of the word that `text` is, if it is one. The words are listed by their length: those
/// of one length are compared eight bytes at a time, where a `match` compares each byte.
macro_rules! spelled {
    ($text:expr, $($length:literal: [$($word:literal => $value:expr,)+])+) => {{
        let text: &[u8] = $text;
        match text.len() {
            $($length => {
                let text = text.first_chunk::<$length>();
                $(if text == Some($word) { Some($value) } else)+ { None }
            })+
            _ => None,
        }
    }};
}

pub(super) use {listed, spelled};

#[cfg(test)]
mod tests {
    listed! {
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Word {
            Id,
            Usage,
            Model,
            PromptTokens,
        }
    }

    fn word(text: &[u8]) -> Option<Word> {
        spelled!(text,
            2: [
                b"id" => Word::Id,
            ]
            5: [
                b"usage" => Word::Usage,
                b"model" => Word::Model,
            ]
            13: [
                b"prompt_tokens" => Word::PromptTokens,
            ]
        )
    }

    #[test]
    fn words_are_found_as_spelled_and_nothing_else() {
        let words = ["id", "usage", "model", "prompt_tokens"];
        for (text, expected) in words.into_iter().zip(Word::ALL) {
            assert_eq!(word(text.as_bytes()), Some(expected));
            for at in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                other[at] ^= 0x20;
                assert_eq!(word(&other), None, "{}", other.escape_ascii());
                other.remove(at);
                assert_eq!(word(&other), None, "{}", other.escape_ascii());
            }
            assert_eq!(word(format!("{text}s").as_bytes()), None);
        }
        assert_eq!(word(b""), None);
    }
}
