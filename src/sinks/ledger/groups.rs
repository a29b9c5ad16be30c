//! Sums of rows, in groups of equal keys.

use std::collections::HashMap;
use std::mem;

use crate::llm::price::{Amount, Cost, Currency, Reported};

/// How token counts can be known (DESIGN.md section 2), the surest first. Reports name all of them,
/// so that their form does not depend on what happened.
pub const SOURCES: [&str; 5] = ["reported", "drained", "partial", "estimated", "none"];

/// Which rows are of requests that could have had tokens, in the SQL of both databases: those that
/// have some, and those that a model answered where the API reports usage. So not `GET /v1/models`,
/// errors, refusals, and files.
pub(super) const MAY_HAVE_TOKENS: &str = "usage_source <> 'none' OR
    (outcome IN ('complete', 'truncated', 'client_disconnected', 'timed_out')
     AND (status = 101 OR (method = 'POST' AND status BETWEEN 200 AND 299))
     AND endpoint IN ('chat/completions', 'completions', 'fim/completions', 'responses', 'messages', 'embeddings', 'realtime',
                      'rerank', 'images/generations', 'images/edits', 'audio/transcriptions', 'audio/translations'))";

/// The values that are equal in a group, in the order of the question; `None` where one is not
/// known.
pub type Key = Vec<Option<String>>;

/// Rows with an equal key.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Their key.
    pub key: Key,
    /// Their sums.
    pub sums: Sums,
}

/// Sums of rows. A count that none of them has is `None`, and never 0; reported counts are
/// added as they are, also where a total is not the sum of its parts. A service that reports no
/// total has one here all the same: Anthropic's would be left out otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// How many requests the rows stand for.
    pub requests: u64,
    /// `input_tokens`, added up.
    pub input_tokens: Option<u64>,
    /// `cached_input_tokens`, added up.
    pub cached_input_tokens: Option<u64>,
    /// `cache_write_input_tokens`, added up.
    pub cache_write_input_tokens: Option<u64>,
    /// `output_tokens`, added up.
    pub output_tokens: Option<u64>,
    /// `reasoning_tokens`, added up.
    pub reasoning_tokens: Option<u64>,
    /// `total_tokens`, added up; of rows without one `input_tokens` and `output_tokens` together.
    pub total_tokens: Option<u64>,
    /// How much of it comes of rows without a total.
    pub computed_total_tokens: Option<u64>,
    /// `billed_seconds`, added up.
    pub billed_seconds: Option<f64>,
    /// Requests of each of [`SOURCES`].
    pub sources: [u64; SOURCES.len()],
    /// Requests that could have had tokens ([`MAY_HAVE_TOKENS`]): the share of those whose counts
    /// are reported is of these.
    pub countable: u64,
    /// Their cost at the prices of their days.
    pub cost: Cost,
    /// `reported_cost`, added up.
    pub reported_cost: Option<Reported>,
    /// How much of the sums is estimated; `None`: nothing. In a box, since most requests have none.
    pub estimated: Option<Box<Estimated>>,
}

/// The part of sums that comes of rows whose counts are estimated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimated {
    /// Of `input_tokens`.
    pub input_tokens: Option<u64>,
    /// Of `output_tokens`.
    pub output_tokens: Option<u64>,
    /// Of `total_tokens`.
    pub total_tokens: Option<u64>,
    /// Of the amounts of `cost`.
    pub cost: Cost,
}

impl Estimated {
    /// The place of `estimated` in [`SOURCES`].
    pub(super) const SOURCE: usize = 3;

    pub(super) fn add(&mut self, other: &Self) {
        plus(&mut self.input_tokens, other.input_tokens);
        plus(&mut self.output_tokens, other.output_tokens);
        plus(&mut self.total_tokens, other.total_tokens);
        self.cost.add(&other.cost);
    }
}

/// Adds a count that may not be known. Real counts never come near the end of it.
fn plus(sum: &mut Option<u64>, more: Option<u64>) {
    *sum = sum.map_or(more, |sum| Some(sum.saturating_add(more.unwrap_or(0))));
}

impl Sums {
    /// Requests whose counts the upstream reported to the end.
    pub fn reported(&self) -> u64 {
        self.sources[0] + self.sources[1]
    }

    /// How the counts are known of requests that could have had tokens, by [`SOURCES`]; together
    /// they are `countable`.
    pub fn known(&self) -> [(&'static str, u64); SOURCES.len()] {
        let mut known = self.sources;
        let counted: u64 = known[..SOURCES.len() - 1].iter().sum();
        known[SOURCES.len() - 1] = self.countable.saturating_sub(counted);
        let mut sources = SOURCES.into_iter().zip(known);
        std::array::from_fn(|_| sources.next().unwrap_or_default())
    }

    /// Adds what services say that requests cost.
    pub(super) fn report(&mut self, cost: Option<Reported>) {
        if let Some(cost) = cost {
            self.reported_cost = Some(self.reported_cost.unwrap_or_default().plus(cost));
        }
    }

    /// Adds what others add up to.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        for (sum, more) in [
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cached_input_tokens, other.cached_input_tokens),
            (&mut self.cache_write_input_tokens, other.cache_write_input_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.reasoning_tokens, other.reasoning_tokens),
            (&mut self.total_tokens, other.total_tokens),
            (&mut self.computed_total_tokens, other.computed_total_tokens),
        ] {
            plus(sum, more);
        }
        self.billed_seconds = self
            .billed_seconds
            .map_or(other.billed_seconds, |sum| Some(sum + other.billed_seconds.unwrap_or(0.0)));
        for (sum, more) in self.sources.iter_mut().zip(other.sources) {
            *sum += more;
        }
        self.countable += other.countable;
        self.cost.add(&other.cost);
        self.report(other.reported_cost);
        if let Some(estimated) = &other.estimated {
            self.estimated.get_or_insert_default().add(estimated);
        }
    }

    /// How much of `input_tokens`, `output_tokens` and `total_tokens` is estimated: 0 where nothing
    /// is, `None` where the sum is not known.
    pub(super) fn estimated_tokens(&self) -> [Option<u64>; 3] {
        let estimated = self.estimated.as_deref();
        let part = |sum: Option<u64>, part: fn(&Estimated) -> Option<u64>| {
            sum.map(|_| estimated.and_then(part).unwrap_or(0))
        };
        [
            part(self.input_tokens, |estimated| estimated.input_tokens),
            part(self.output_tokens, |estimated| estimated.output_tokens),
            part(self.total_tokens, |estimated| estimated.total_tokens),
        ]
    }

    /// How much of an amount is for estimated tokens; `None` where there is no amount.
    pub(super) fn estimated_cost(&self, currency: Currency) -> Option<Amount> {
        let part = self.estimated.as_deref().and_then(|estimated| estimated.cost.amount(currency));
        self.cost.amount(currency).map(|_| part.unwrap_or_default())
    }

    /// How much of the sums is estimated.
    pub fn estimated(&self) -> Estimated {
        self.estimated.as_deref().cloned().unwrap_or_default()
    }
}

/// Groups being added up. A row of a known group costs one look-up, and no allocation.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Where in `sums` a key's are.
    places: HashMap<Box<[u8]>, usize>,
    sums: Vec<Sums>,
    /// The key of the row at hand; its memory is kept.
    key: Vec<u8>,
}

impl Groups {
    /// Begins the next row.
    pub(super) fn begin(&mut self) {
        self.key.clear();
    }

    /// The next part of the row's key. Its length goes before it, so that no two keys look the
    /// same; a value that is not known has none.
    pub(super) fn part(&mut self, value: Option<&[u8]>) {
        let length = value.map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap_or(u32::MAX - 1));
        self.key.extend_from_slice(&length.to_ne_bytes());
        self.key.extend_from_slice(value.unwrap_or_default());
    }

    /// The sums that the row belongs to.
    pub(super) fn sums(&mut self) -> &mut Sums {
        let place = self.places.get(self.key.as_slice()).copied();
        let place = place.unwrap_or_else(|| self.begin_group());
        &mut self.sums[place]
    }

    /// The sums that the row belongs to, unless it would be the first of one group more than
    /// `most`.
    pub(super) fn sums_within(&mut self, most: usize) -> Option<&mut Sums> {
        let place = self.places.get(self.key.as_slice()).copied();
        let place = place.or_else(|| (self.sums.len() < most).then(|| self.begin_group()))?;
        Some(&mut self.sums[place])
    }

    fn begin_group(&mut self) -> usize {
        let place = self.sums.len();
        self.places.insert(self.key.as_slice().into(), place);
        self.sums.push(Sums::default());
        place
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// Adds other groups, each to that of the same key; to `rest` those that would be more than
    /// `most`.
    pub(super) fn add(&mut self, mut others: Self, most: usize, rest: &mut Sums) {
        for (key, place) in others.places {
            let sums = mem::take(&mut others.sums[place]);
            match self.places.get(&key) {
                Some(place) => self.sums[*place].add(&sums),
                None if self.sums.len() == most => rest.add(&sums),
                None => {
                    self.places.insert(key, self.sums.len());
                    self.sums.push(sums);
                }
            }
        }
    }

    /// All groups in the order of their keys' bytes, what is not known last; `read` makes a key of
    /// its parts.
    pub(super) fn finish(self, mut read: impl FnMut(Vec<Option<&[u8]>>) -> Key) -> Vec<Group> {
        let Self { places, mut sums, .. } = self;
        let mut keys: Vec<_> = places.iter().map(|(key, place)| (parts(key), *place)).collect();
        keys.sort_by(|(a, _), (b, _)| a.iter().map(order).cmp(b.iter().map(order)));
        let group =
            |(parts, place): (_, usize)| Group { key: read(parts), sums: mem::take(&mut sums[place]) };
        keys.into_iter().map(group).collect()
    }
}

fn order<'a>(part: &Option<&'a [u8]>) -> (bool, Option<&'a [u8]>) {
    (part.is_none(), *part)
}

fn parts(mut key: &[u8]) -> Vec<Option<&[u8]>> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = key.split_first_chunk() {
        let length = u32::from_ne_bytes(*length);
        let (part, rest) = if length == u32::MAX {
            (None, rest)
        } else {
            let (part, rest) = rest.split_at(length as usize);
            (Some(part), rest)
        };
        parts.push(part);
        key = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_look_alike_in_one_piece_are_told_apart() {
        let rows: [[Option<&str>; 2]; 6] = [
            [Some("ab"), Some("c")],
            [Some("a"), Some("bc")],
            [None, Some("abc")],
            [Some("abc"), None],
            [Some("abc"), Some("")],
            [Some("ab"), Some("c")],
        ];
        let mut groups = Groups::default();
        for row in rows {
            groups.begin();
            row.iter().for_each(|part| groups.part(part.map(str::as_bytes)));
            groups.sums().requests += 1;
        }
        let text = |part: Option<&[u8]>| part.map(|part| String::from_utf8(part.to_vec()).unwrap());
        let found = groups.finish(|parts| parts.into_iter().map(text).collect());
        let found: Vec<_> = found
            .iter()
            .map(|group| {
                (group.key.iter().map(|part| part.as_deref()).collect::<Vec<_>>(), group.sums.requests)
            })
            .collect();
        assert_eq!(
            found,
            [
                (vec![Some("a"), Some("bc")], 1),
                (vec![Some("ab"), Some("c")], 2),
                (vec![Some("abc"), Some("")], 1),
                (vec![Some("abc"), None], 1),
                (vec![None, Some("abc")], 1),
            ]
        );
    }

    #[test]
    fn unknown_and_zero_stay_apart() {
        let mut sums = Sums::default();
        sums.add(&Sums { requests: 1, ..Sums::default() });
        assert_eq!((sums.input_tokens, sums.billed_seconds), (None, None));
        sums.add(&Sums { input_tokens: Some(0), billed_seconds: Some(0.5), ..Sums::default() });
        sums.add(&Sums { requests: 1, ..Sums::default() });
        assert_eq!((sums.requests, sums.input_tokens, sums.billed_seconds), (2, Some(0), Some(0.5)));
    }
}
