//! `log.level`, `--log` and `RUST_LOG`: a level, or levels of targets.

use tracing_subscriber::EnvFilter;

/// The levels, the most silent first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks a filter in the form of `RUST_LOG`.
///
/// `EnvFilter` reads every word as a target, so that `inf` logs only a crate of that name. Here a
/// single word is a level or, with `::` in it, a target.
///
/// # Errors
/// Fails with the mistake, and the words to write.
pub fn check_log_filter(text: &str) -> Result<(), String> {
    let what = "is not a filter such as \"info\" or \"warn,streamgauge=debug\"";
    EnvFilter::builder().parse(text).map_err(|error| format!("{text:?} {what}: {error}"))?;
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || matches!(word.as_bytes(), [b'0'..=b'5'])
    };
    let is_target = |word: &str| word.contains(['=', '[']) || word.contains("::");
    let mut words = text.split(',').filter(|word| !word.is_empty());
    match words.find(|word| !is_level(word) && !is_target(word)) {
        Some(word) => Err(format!(
            "{word:?} is not a level: write {}, or a level of a target, such as \"{word}=debug\"",
            LEVELS.join(", ")
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_and_levels_of_targets_are_filters() {
        for good in [
            "info",
            "WARN",
            "off",
            "3",
            "",
            "info,streamgauge::access=off",
            "streamgauge::proxy",
            "error,[request{id=1}]=debug",
        ] {
            assert_eq!(check_log_filter(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn word_that_is_not_a_level_is_refused_with_the_levels() {
        for bad in ["inf", "verbose", "information", "warn,debgu", "6", "streamgauge", "all"] {
            let reason = check_log_filter(bad).expect_err(bad);
            assert!(reason.contains("off, error, warn, info, debug, trace"), "{reason}");
        }
        for bad in ["streamgauge=inf", "a=b=c", "[broken"] {
            assert!(check_log_filter(bad).is_err(), "{bad}");
        }
    }
}
