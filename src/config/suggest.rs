//! "Did you mean": the known word for which a mistyped one was probably meant.

use strsim::osa_distance;

/// The candidate nearest to `word`. Case is ignored, and `-` equals `_`.
///
/// A candidate is near if at most a third of its letters are changed, omitted, added or swapped
/// with their neighbour. Otherwise, the first candidate that contains the word, or that the word
/// contains (`key` and `api_key`).
pub(super) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normalize(word);
    let candidates: Vec<_> = candidates.into_iter().collect();
    let near = candidates
        .iter()
        .map(|candidate| (osa_distance(&word, &normalize(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= (word.len().min(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    near.or_else(|| candidates.into_iter().find(|candidate| is_part(&word, &normalize(candidate))))
}

/// The shortest word that is searched in others. Shorter ones are part of too many.
const SHORTEST_PART: usize = 3;

fn is_part(word: &str, candidate: &str) -> bool {
    let (short, long) = if word.len() <= candidate.len() { (word, candidate) } else { (candidate, word) };
    short.len() >= SHORTEST_PART && long.contains(short)
}

fn normalize(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["listen", "workers", "url", "api_key", "api_version", "default_model"];

    #[test]
    fn suggest_finds_the_key_behind_a_slip() {
        for (word, meant) in [
            ("listn", "listen"),
            ("lisetn", "listen"),
            ("liisten", "listen"),
            ("lister", "listen"),
            ("Workers", "workers"),
            ("worker", "workers"),
            ("api-key", "api_key"),
            ("apikey", "api_key"),
            ("apiversion", "api_version"),
            ("ulr", "url"),
            ("base_url", "url"),
            ("key", "api_key"),
            ("model", "default_model"),
        ] {
            assert_eq!(suggest(word, KEYS), Some(meant), "{word}");
        }
    }

    #[test]
    fn suggest_has_nothing_for_a_word_unlike_all() {
        for word in ["", "x", "retention", "on_disconnect", "temperature"] {
            assert_eq!(suggest(word, KEYS), None, "{word}");
        }
    }

    #[test]
    fn suggest_prefers_the_nearer_of_two() {
        assert_eq!(suggest("gpt4", ["gpt41", "gpt4"]), Some("gpt4"));
    }
}
