//! "Did you mean": the known word that is nearest to one that is not.

/// The candidate that `word` was probably meant to be. Case does not count, nor does `-` for `_`.
///
/// Near is a third of the word's letters changed, left out, put in or swapped with their neighbour;
/// failing that, one word that is a part of the other (`key` and `api_key`).
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let candidates: Vec<_> = candidates.into_iter().collect();
    let near = candidates
        .iter()
        .map(|candidate| (distance(&word, &plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= (word.len().min(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    near.or_else(|| candidates.into_iter().find(|candidate| is_part(&word, &plain(candidate))))
}

/// Shorter words are part of too many others.
const SHORTEST_PART: usize = 3;

fn is_part(word: &[char], candidate: &[char]) -> bool {
    let (short, long) = if word.len() <= candidate.len() { (word, candidate) } else { (candidate, word) };
    short.len() >= SHORTEST_PART && long.windows(short.len()).any(|window| window == short)
}

fn plain(word: &str) -> Vec<char> {
    word.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment: the fewest changes, omissions, additions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = changed.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best.min(table[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["listen", "workers", "url", "api_key", "api_version", "default_model"];

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        for (word, meant) in [
            ("listn", "listen"),
            ("lisetn", "listen"),
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
            assert_eq!(nearest(word, KEYS), Some(meant), "{word}");
        }
    }

    #[test]
    fn what_is_like_nothing_has_no_suggestion() {
        for word in ["", "x", "retention", "on_disconnect", "temperature"] {
            assert_eq!(nearest(word, KEYS), None, "{word}");
        }
    }

    #[test]
    fn the_nearer_of_two_wins() {
        assert_eq!(nearest("gpt4", ["gpt41", "gpt4"]), Some("gpt4"));
    }

    #[test]
    fn distance_counts_each_kind_of_slip_once() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abd", 1),
            ("abc", "ab", 1),
            ("abc", "abxc", 1),
            ("abc", "acb", 1),
            ("ab", "cd", 2),
        ] {
            assert_eq!(distance(&plain(a), &plain(b)), expected, "{a} {b}");
            assert_eq!(distance(&plain(b), &plain(a)), expected, "{b} {a}");
        }
    }
}
