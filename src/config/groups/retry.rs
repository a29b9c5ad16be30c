//! `[groups.NAME.retry]`: the failures after which another member is tried, and the limits of that.

use crate::balance::{RetryOn, RetryPolicy, RetryWord};
use crate::config::kind::{Kind, Shape, integer, time};
use crate::config::notes::Read;
use crate::config::reader::{Entry, Table};
use crate::config::settings::{MemberSettings, Upstream};
use crate::config::suggest::suggest;

/// The word of the default.
const RETRYABLE: &str = "retryable";

/// `tiers`: the group's members, if they are valid; `upstreams`: those of the configuration, if all
/// are.
pub(super) fn retry(
    table: &Table<'_>,
    tiers: Option<&[Vec<MemberSettings>]>,
    upstreams: Option<&[Upstream]>,
) -> Read<RetryPolicy> {
    let members = tiers.map(<[_]>::concat);
    let most = members.as_ref().map(Vec::len);
    let attempts = integer().default(0).then(|entry, attempts| match (attempts, most) {
        (attempts, Some(most)) if attempts > most => Err(entry.mistake(format!(
            "{attempts} is more than the group's {most} members, and none is tried twice: write at most {most}"
        ))),
        (attempts, _) => Ok(attempts),
    });
    let attempts = table.or_default("attempts", attempts);
    let on = table.or_default("on", causes().default(vec![RETRYABLE]));
    let deadline = table.or_default("deadline", time().default("60s"));
    let first_byte = time().or_empty().default("").then(|entry, limit| {
        let Some(limit) = limit else { return Ok(None) };
        if on.as_ref().is_ok_and(|on| !on.contains(RetryWord::FirstByte)) {
            let reason = "has no effect without \"first_byte\" in `on`: add that, or remove this";
            return Err(entry.mistake(reason));
        }
        let own = members.as_deref().zip(upstreams).into_iter().flat_map(|(members, upstreams)| {
            members.iter().map(|member| upstreams[member.upstream].timeouts.first_byte)
        });
        if let Some(longest) = own.max().filter(|longest| limit > *longest) {
            return Err(entry.mistake(format!(
                "is longer than timeouts.first_byte of every member, at most {longest:?}, which applies anyway: write less"
            )));
        }
        Ok(Some(limit))
    });
    let first_byte = table.or_default("first_byte", first_byte);
    if let (Ok(deadline), Ok(Some(first_byte))) = (deadline, first_byte)
        && deadline < first_byte
    {
        let reason =
            "is shorter than first_byte, so that no attempt could follow an abandoned one: write more";
        table.mistake("deadline", reason);
    }
    let budget = table.or_default("budget", budget().default(0.2));
    read_all!(RetryPolicy {
        attempts: attempts,
        on: on,
        deadline: deadline,
        first_byte: first_byte,
        budget: budget
    })
}

/// Words for failures, or for classes of them.
fn words() -> impl Iterator<Item = &'static str> + Clone {
    RetryOn::WORDS.into_iter()
}

fn causes() -> Kind<impl FnOnce(&Entry<'_>) -> Read<RetryOn>> {
    let shape = Shape::List(Box::new(Shape::Choice(words().collect())));
    Kind::new(shape, |entry: &Entry<'_>| {
        let named = entry.list(|entry| {
            let word = entry.text("text in quotes, such as \"retryable\"")?;
            match words().find(|known| *known == word) {
                Some(word) => Ok(word),
                None => Err(entry.mistake(unknown_word(word))),
            }
        })?;
        Ok(RetryOn::parse(named).expect("each word is one of RetryOn::WORDS"))
    })
}

fn unknown_word(word: &str) -> String {
    // No status is a slip of another: 501 does not mean 500.
    let meant = suggest(word, words()).filter(|_| word.parse::<u16>().is_err());
    match meant {
        Some(meant) => format!("{word:?} is unknown; did you mean {meant:?}?"),
        None => format!("{word:?} is unknown: write some of {}", words().collect::<Vec<_>>().join(", ")),
    }
}

/// A number from 0 to 10.
fn budget() -> Kind<impl FnOnce(&Entry<'_>) -> Read<f64>> {
    const BUDGET: &str = "a number from 0 to 10, such as 0.2";
    Kind::new(Shape::Number(Some(10.0)), |entry: &Entry<'_>| match entry.decimal(BUDGET)?.parse() {
        Ok(budget) if (0.0..=10.0).contains(&budget) => Ok(budget),
        _ => Err(entry.mistake(format!("must be {BUDGET}"))),
    })
}
