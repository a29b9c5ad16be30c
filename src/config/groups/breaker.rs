//! `[groups.NAME.breaker]`: conditions and times for leaving out a failing member.

use std::time::Duration;

use crate::balance::BreakerPolicy;
use crate::config::kind::{Kind, Shape, integer, list, time};
use crate::config::notes::Read;
use crate::config::reader::{Entry, Table};

/// `trial`: the time for which a half-open breaker waits for the result of its trial.
pub(super) fn breaker(table: &Table<'_>, trial: Duration) -> Read<BreakerPolicy> {
    let pauses = list(time()).default(vec!["2s", "60s"]).then(|entry, pauses| match pauses[..] {
        [first, longest] if first <= longest => Ok((first, longest)),
        [_, _] => Err(entry.mistake("has a longest pause that is shorter than the first: swap them")),
        _ => Err(entry
            .mistake("must be two durations, the first pause and the longest, such as [\"2s\", \"60s\"]")),
    });
    let pauses = table.or_default("pause", pauses);
    let requests = count().default(20).then(|entry, requests| match requests {
        0 => Err(entry.mistake("must be at least 1; write success_rate = 0 for no such rule")),
        requests => Ok(requests),
    });
    read_all!(BreakerPolicy {
        failures: table.or_default("failures", count().default(5)),
        success_rate: table.or_default("success_rate", share().default(0.5)),
        requests: table.or_default("requests", requests),
        pause: pauses.map(|(first, _)| first),
        longest_pause: pauses.map(|(_, longest)| longest),
        trial: Ok(trial),
    })
}

fn count() -> Kind<impl FnOnce(&Entry<'_>) -> Read<u32>> {
    integer().then(|entry, count| {
        u32::try_from(count).map_err(|_| entry.mistake(format!("must be at most {}", u32::MAX)))
    })
}

/// A number from 0 to 1.
fn share() -> Kind<impl FnOnce(&Entry<'_>) -> Read<f64>> {
    const SHARE: &str = "a number from 0 to 1, such as 0.5";
    Kind::new(Shape::Number(Some(1.0)), |entry: &Entry<'_>| match entry.decimal(SHARE)?.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(entry.mistake(format!("must be {SHARE}"))),
    })
}
