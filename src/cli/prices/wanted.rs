//! The prices of a list that are wanted: those of models that were used, or that are named.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::PricePlace;
use crate::import::{PriceList, PriceSource, PriceStep, base_of_tuned, without_date};
use crate::llm::price::Price;

/// The largest number of models in a message.
const MOST: usize = 8;

/// A model that a request of an upstream had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) upstream: String,
    pub(super) model: String,
}

/// The wanted prices, with the reasons for those that are left out.
pub(super) struct Wanted<'a> {
    list: &'a PriceList,
    place: &'a PricePlace,
    /// The source of each upstream whose service is known.
    sources: BTreeMap<String, PriceSource>,
    prices: Vec<Price>,
    taken: BTreeSet<(Option<String>, String)>,
    /// Models by the reason for which they have no price, or that is to be known.
    left_out: BTreeMap<String, BTreeSet<String>>,
    near: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Wanted<'a> {
    /// `services` are those of upstreams by LiteLLM's names.
    pub(super) fn new(list: &'a PriceList, place: &'a PricePlace, services: &[(String, String)]) -> Self {
        let known = place.upstreams.iter().filter_map(|upstream| {
            Some((upstream.name.clone(), PriceSource::of(upstream.provider, &upstream.host)?))
        });
        let named = services.iter().map(|(name, service)| (name.clone(), PriceSource::named(service)));
        Self {
            list,
            place,
            sources: known.chain(named).collect(),
            prices: Vec::new(),
            taken: BTreeSet::new(),
            left_out: BTreeMap::new(),
            near: BTreeMap::new(),
        }
    }

    /// Adds the models that requests have had, and those in the file of prices.
    pub(super) fn add_seen(&mut self, seen: &BTreeSet<Seen>) {
        let stored =
            self.place.stored.iter().filter_map(|price| {
                Some(Seen { upstream: price.upstream.clone()?, model: price.model.clone() })
            });
        for Seen { upstream, model } in seen.iter().cloned().chain(stored) {
            if !self.place.upstreams.iter().any(|place| place.name == upstream)
                && !self.sources.contains_key(&upstream)
            {
                self.leave_out("their upstream is not in the configuration", &model, Some(&upstream));
                continue;
            }
            let Some(source) = self.sources.get(&upstream).cloned() else {
                let reason = "the list does not know the service: --service names it";
                self.leave_out(reason, &model, Some(&upstream));
                continue;
            };
            let Some(key) = self.list.key(&source, model.trim_end_matches(":*")) else {
                self.leave_out("are not in the list", &model, Some(&upstream));
                continue;
            };
            let base = base_of_tuned(&model);
            let name = if base == model { model.clone() } else { format!("{base}:*") };
            self.add(key, &name, Some(&upstream));
            // Requests mostly name the model without its date, and limits of cost look at requests.
            if let Some(name) = without_date(&model)
                && let Some(key) = self.list.key(&source, name)
            {
                self.add(key, name, Some(&upstream));
            }
        }
    }

    /// Adds models by their names in the list, for the upstreams that have them.
    ///
    /// # Errors
    /// Fails with the first name that the list does not have.
    pub(super) fn add_named(&mut self, names: &[String]) -> Result<(), String> {
        for name in names {
            let keys: Vec<_> = self.list.matching(name).collect();
            if keys.is_empty() {
                return Err(format!("the list has no model {name:?}"));
            }
            for key in keys {
                let of_upstreams: Vec<_> = self
                    .sources
                    .iter()
                    .filter_map(|(upstream, source)| Some((upstream.clone(), self.list.model(source, key)?)))
                    .collect();
                for (upstream, model) in &of_upstreams {
                    self.add(key, model, Some(upstream));
                }
                if of_upstreams.is_empty() {
                    self.add(key, self.list.bare_model(key), None);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, key: &str, model: &str, upstream: Option<&str>) {
        if !self.taken.insert((upstream.map(str::to_owned), model.to_owned())) {
            return;
        }
        let listed = match self.list.prices(key) {
            Ok(listed) => listed,
            Err(reason) => return self.leave_out(&reason, model, upstream),
        };
        for note in listed.notes {
            self.near.entry(note).or_default().insert(shown(model, upstream));
        }
        self.prices.extend(listed.steps.into_iter().map(|step| {
            let PriceStep { tier, above_input_tokens, rates } = step;
            let upstream = upstream.map(str::to_owned);
            Price { upstream, tier, above_input_tokens, ..Price::new(model, rates) }
        }));
    }

    fn leave_out(&mut self, reason: &str, model: &str, upstream: Option<&str>) {
        self.left_out.entry(reason.to_owned()).or_default().insert(shown(model, upstream));
    }

    /// The lines about models that are left out, and about parts that are.
    pub(super) fn notes(&self) -> Vec<String> {
        let left_out =
            self.left_out.iter().map(|(reason, models)| format!("left out: {}: {reason}", names(models)));
        let near = self.near.iter().map(|(note, models)| format!("near: {}: {note}", names(models)));
        left_out.chain(near).collect()
    }

    pub(super) fn into_prices(self) -> Vec<Price> {
        let mut prices = self.prices;
        prices.iter_mut().for_each(|price| price.is_imported = true);
        prices
    }
}

fn shown(model: &str, upstream: Option<&str>) -> String {
    match upstream {
        Some(upstream) => format!("{model} ({upstream})"),
        None => model.to_owned(),
    }
}

fn names(models: &BTreeSet<String>) -> String {
    let first: Vec<_> = models.iter().take(MOST).map(String::as_str).collect();
    match models.len().saturating_sub(MOST) {
        0 => first.join(", "),
        more => format!("{} and {more} others", first.join(", ")),
    }
}
