//! The parts of a chart by the values of a field: the largest by name, and the others together.

use std::collections::BTreeMap;

use crate::sinks::ledger::{By, Overview, Sums, Teams};

/// The largest number of parts with colours of their own.
const MOST_PARTS: usize = 7;

/// A part of the chart.
pub(super) struct Split {
    /// The value, `Ok(None)` for requests without one; or the number of other values.
    pub(super) name: Result<Option<String>, usize>,
    pub(super) steps: Vec<Sums>,
    /// The place among the largest. `None`: the others.
    pub(super) place: Option<usize>,
}

/// The parts, the largest first.
pub(super) fn split(by: By, overview: &Overview, teams: &Teams, size: &impl Fn(&Sums) -> f64) -> Vec<Split> {
    let series = if by == By::Team { of_teams(overview, teams) } else { overview.series.clone() };
    let whole = |steps: &[Sums]| {
        let mut sums = Sums::default();
        steps.iter().for_each(|step| sums.add(step));
        size(&sums)
    };
    let mut sized: Vec<_> = series.into_iter().map(|(name, steps)| (whole(&steps), name, steps)).collect();
    sized.retain(|(size, ..)| *size > 0.0);
    sized.sort_by(|(a, one, _), (b, other, _)| b.total_cmp(a).then_with(|| one.cmp(other)));
    let named = if sized.len() <= MOST_PARTS + 1 { sized.len() } else { MOST_PARTS };
    let others = sized.split_off(named);
    let parts = sized.into_iter().enumerate();
    let mut parts: Vec<_> =
        parts.map(|(place, (_, name, steps))| Split { name: Ok(name), steps, place: Some(place) }).collect();
    let mut rest = overview.other_series.clone().unwrap_or_default();
    for (_, _, steps) in &others {
        add(&mut rest, steps);
    }
    if !rest.is_empty() {
        parts.push(Split { name: Err(others.len()), steps: rest, place: None });
    }
    parts
}

fn add(steps: &mut Vec<Sums>, more: &[Sums]) {
    steps.resize_with(more.len().max(steps.len()), Sums::default);
    steps.iter_mut().zip(more).for_each(|(sums, more)| sums.add(more));
}

/// The series of clients as series of their teams.
fn of_teams(overview: &Overview, teams: &Teams) -> Vec<(Option<String>, Vec<Sums>)> {
    let mut series: BTreeMap<Option<String>, Vec<Sums>> = BTreeMap::new();
    for (client, steps) in &overview.series {
        let team = client.as_ref().and_then(|client| teams.get(client)).cloned();
        add(series.entry(team).or_default(), steps);
    }
    series.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_beyond_the_largest_are_one() {
        let steps = |requests| vec![Sums { requests, ..Sums::default() }; 2];
        let series = (1..=12).map(|number| (Some(format!("u{number:02}")), steps(number))).collect();
        let overview = Overview { series, ..Overview::default() };
        let parts = split(By::User, &overview, &Teams::default(), &|sums| sums.requests as f64);
        assert_eq!(parts.len(), MOST_PARTS + 1);
        assert_eq!(parts[0].name, Ok(Some("u12".to_owned())));
        assert_eq!((&parts[7].name, parts[7].steps[0].requests), (&Err(5), 1 + 2 + 3 + 4 + 5));
    }

    #[test]
    fn clients_add_up_to_their_teams() {
        let steps = || vec![Sums { requests: 1, ..Sums::default() }];
        let series = ["a", "b", "c"].map(|client| (Some(client.to_owned()), steps())).into();
        let overview = Overview { series, ..Overview::default() };
        let teams = ["a", "b"].map(|client| (client.to_owned(), "search".to_owned()));
        let parts = split(By::Team, &overview, &Teams::new(teams.into()), &|sums| sums.requests as f64);
        assert_eq!(parts.len(), 2);
        assert_eq!((&parts[0].name, parts[0].steps[0].requests), (&Ok(Some("search".to_owned())), 2));
        assert_eq!(parts[1].name, Ok(None));
    }
}
