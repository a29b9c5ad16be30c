//! Sums of rows, in groups of equal keys.

use std::collections::HashMap;
use std::mem;

use crate::llm::price::{Amount, Cost, Currency, Reported};

/// All usage sources (DESIGN.md section 2), the surest first. Reports list all of them, so that
/// their form is always the same.
pub const SOURCES: [&str; 5] = ["reported", "drained", "partial", "estimated", "none"];

/// The condition for rows of requests that could have had tokens, in the SQL of both databases:
/// rows with tokens, and rows that a model responded to on an endpoint that reports usage. It
/// excludes `GET /v1/models`, errors, refusals, and files.
pub(super) const MAY_HAVE_TOKENS: &str = "usage_source <> 'none' OR
    (outcome IN ('complete', 'truncated', 'client_disconnected', 'timed_out', 'cut')
     AND (status = 101 OR (method = 'POST' AND status BETWEEN 200 AND 299))
     AND endpoint IN ('chat/completions', 'completions', 'fim/completions', 'responses', 'messages', 'embeddings', 'realtime',
                      'rerank', 'images/generations', 'images/edits', 'audio/transcriptions', 'audio/translations'))";

/// The condition for requests that failed, in the SQL of both databases: every outcome except those
/// of a whole response and of a client that left.
pub(super) const FAILED: &str = "outcome NOT IN ('complete', 'client_disconnected')";

/// The values that are equal in a group, in the order of the query. `None` for an unknown value.
pub type Key = Vec<Option<String>>;

/// Rows with an equal key.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The key.
    pub key: Key,
    /// The sums.
    pub sums: Sums,
}

/// Sums of rows. A count that no row has is `None`, never 0. Reported counts are added unchanged,
/// also if a total is not the sum of its parts. The total of a service that reports none
/// (Anthropic) is computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// The number of requests in the rows.
    pub requests: u64,
    /// The sum of `input_tokens`.
    pub input_tokens: Option<u64>,
    /// The sum of `cached_input_tokens`.
    pub cached_input_tokens: Option<u64>,
    /// The sum of `cache_write_input_tokens`.
    pub cache_write_input_tokens: Option<u64>,
    /// The sum of `output_tokens`.
    pub output_tokens: Option<u64>,
    /// The sum of `reasoning_tokens`.
    pub reasoning_tokens: Option<u64>,
    /// The sum of `total_tokens`, or of `input_tokens` and `output_tokens` for rows without a
    /// total.
    pub total_tokens: Option<u64>,
    /// The part of `total_tokens` from rows without a total.
    pub computed_total_tokens: Option<u64>,
    /// The sum of `billed_seconds`.
    pub billed_seconds: Option<f64>,
    /// Requests by usage source, in the order of [`SOURCES`].
    pub sources: [u64; SOURCES.len()],
    /// Requests that could have had tokens ([`MAY_HAVE_TOKENS`]): the base of the share with
    /// reported counts.
    pub countable: u64,
    /// Requests that failed ([`FAILED`]).
    pub failed: u64,
    /// The cost at the prices of each day.
    pub cost: Cost,
    /// The amount by which cached input cost less than other input at the same prices. `None`
    /// without such input. Boxed, since many sums have none.
    pub saved: Option<Box<Cost>>,
    /// The sum of `reported_cost`.
    pub reported_cost: Option<Reported>,
    /// The estimated part of the sums. `None` if nothing is estimated. Boxed, since most sums have
    /// no estimates.
    pub estimated: Option<Box<Estimated>>,
}

/// The part of sums that comes from rows with estimated counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimated {
    /// The part of `input_tokens`.
    pub input_tokens: Option<u64>,
    /// The part of `output_tokens`.
    pub output_tokens: Option<u64>,
    /// The part of `total_tokens`.
    pub total_tokens: Option<u64>,
    /// The part of the amounts of `cost`.
    pub cost: Cost,
}

impl Estimated {
    /// The index of `estimated` in [`SOURCES`].
    pub(super) const SOURCE: usize = 3;

    pub(super) fn add(&mut self, other: &Self) {
        plus(&mut self.input_tokens, other.input_tokens);
        plus(&mut self.output_tokens, other.output_tokens);
        plus(&mut self.total_tokens, other.total_tokens);
        self.cost.add(&other.cost);
    }
}

/// Adds a count that may be unknown. Real counts never overflow.
fn plus(sum: &mut Option<u64>, more: Option<u64>) {
    *sum = sum.map_or(more, |sum| Some(sum.saturating_add(more.unwrap_or(0))));
}

impl Sums {
    /// Requests whose counts are reported and final.
    pub fn reported(&self) -> u64 {
        self.sources[0] + self.sources[1]
    }

    /// The requests that could have had tokens, by usage source. Their sum is `countable`.
    pub fn known(&self) -> [(&'static str, u64); SOURCES.len()] {
        let mut known = self.sources;
        let counted: u64 = known[..SOURCES.len() - 1].iter().sum();
        known[SOURCES.len() - 1] = self.countable.saturating_sub(counted);
        let mut sources = SOURCES.into_iter().zip(known);
        std::array::from_fn(|_| sources.next().unwrap_or_default())
    }

    /// Adds what cached input saved, if anything.
    pub(super) fn save(&mut self, currency: Currency, amount: Amount) {
        if amount > Amount::default() {
            self.saved.get_or_insert_default().pay(currency, amount);
        }
    }

    /// Adds a cost that a service reported.
    pub(super) fn report(&mut self, cost: Option<Reported>) {
        if let Some(cost) = cost {
            self.reported_cost = Some(self.reported_cost.unwrap_or_default().plus(cost));
        }
    }

    /// The sums of rows that are parts of requests, which other rows count.
    pub(super) fn without_requests(self) -> Self {
        Self { requests: 0, sources: [0; SOURCES.len()], countable: 0, failed: 0, ..self }
    }

    /// Adds the sums of other rows.
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
        self.failed += other.failed;
        self.cost.add(&other.cost);
        if let Some(saved) = &other.saved {
            self.saved.get_or_insert_default().add(saved);
        }
        self.report(other.reported_cost);
        if let Some(estimated) = &other.estimated {
            self.estimated.get_or_insert_default().add(estimated);
        }
    }

    /// The estimated parts of `input_tokens`, `output_tokens` and `total_tokens`: 0 without
    /// estimates, `None` if the sum is unknown.
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

    /// The part of an amount that is for estimated tokens. `None` if there is no amount.
    pub(super) fn estimated_cost(&self, currency: Currency) -> Option<Amount> {
        let part = self.estimated.as_deref().and_then(|estimated| estimated.cost.amount(currency));
        self.cost.amount(currency).map(|_| part.unwrap_or_default())
    }

    /// The estimated part of the sums.
    pub fn estimated(&self) -> Estimated {
        self.estimated.as_deref().cloned().unwrap_or_default()
    }
}

/// Groups that are being added up. A row of a known group costs one look-up, and no allocation.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The index in `sums` by key.
    places: HashMap<Box<[u8]>, usize>,
    sums: Vec<Sums>,
    /// The key of the current row. The buffer is reused.
    key: Vec<u8>,
}

impl Groups {
    /// Begins the next row.
    pub(super) fn begin(&mut self) {
        self.key.clear();
    }

    /// Appends a part of the row's key. Its length precedes it, so that no two keys are equal; an
    /// unknown value has none.
    pub(super) fn part(&mut self, value: Option<&[u8]>) {
        let length = value.map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap_or(u32::MAX - 1));
        self.key.extend_from_slice(&length.to_ne_bytes());
        self.key.extend_from_slice(value.unwrap_or_default());
    }

    /// The sums of the row's group.
    pub(super) fn sums(&mut self) -> &mut Sums {
        let place = self.places.get(self.key.as_slice()).copied();
        let place = place.unwrap_or_else(|| self.begin_group());
        &mut self.sums[place]
    }

    /// The sums of the row's group. `None` if it would be a new group beyond `most`.
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

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// The groups with other keys: `write` appends the parts of the new key, given the old ones.
    /// Groups whose keys become equal are added up.
    #[must_use]
    pub(super) fn with_keys(self, write: impl Fn(&[Option<&[u8]>], &mut Self)) -> Self {
        let mut others = Self::default();
        self.drain(|parts, sums| {
            others.begin();
            write(parts, &mut others);
            others.sums().add(&sums);
        });
        others
    }

    /// Takes all groups, in the order of their first rows.
    pub(super) fn drain(self, mut take: impl FnMut(&[Option<&[u8]>], Sums)) {
        let mut keys = vec![None; self.sums.len()];
        self.places.iter().for_each(|(key, place)| keys[*place] = Some(key));
        for (key, sums) in keys.into_iter().flatten().zip(self.sums) {
            take(&parts(key), sums);
        }
    }

    /// Adds other groups, each to the one with the same key. Groups beyond `most` are added to
    /// `rest`.
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

    /// All groups in the order of their keys' bytes, unknown values last. `read` converts the parts
    /// of a key.
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
