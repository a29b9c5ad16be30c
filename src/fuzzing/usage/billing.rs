//! The billing data besides the tokens, by a plain implementation of the rule.

use std::collections::BTreeMap;

use super::counts::read;
use super::json::Json;
use super::unread::unread;
use crate::llm::usage::Tally;

type Calls = BTreeMap<&'static str, u64>;

#[derive(Debug, Default)]
pub(super) struct Billing {
    pub(super) is_body: bool,
    /// All tiers, and the last one of a payload with counts.
    tiers: Vec<String>,
    tier: Option<String>,
    cost: Option<f64>,
    counted: Calls,
    done: Calls,
    listed: Calls,
    /// A payload had items or counts that the meter need not read.
    is_unsure: bool,
}

impl Billing {
    /// Returns true if the payload's usage has unknown counts. `None`: it has no usage.
    pub(super) fn take(&mut self, json: &Json, is_picture: bool, is_terminal: bool) -> Option<bool> {
        let [response, message, groq] = ["response", "message", "x_groq"].map(|key| json.get(key));
        let in_choices = items(json.get("choices")).iter().flat_map(|choice| choice.all("usage"));
        let in_choices: Vec<_> = in_choices.filter(|usage| has_anything(usage)).collect();
        let in_choice = in_choices.iter().rfind(|usage| read(usage).is_some()).or(in_choices.last());
        let list = items(json);
        let completions = list
            .iter()
            .any(|item| item.all("object").any(|object| object.plain() == Some("text_completion")));
        let of_list = |key: &str, wanted: bool| {
            let all: Vec<_> = list.iter().filter(|_| wanted).flat_map(|item| item.all(key)).collect();
            let all: Vec<_> = all.into_iter().filter(|usage| has_anything(usage)).collect();
            all.iter().rfind(|usage| read(usage).is_some()).or(all.last()).copied().unwrap_or(&Json::Null)
        };
        let usages = [
            json.get("usage"),
            response.get("usage"),
            message.get("usage"),
            in_choice.copied().unwrap_or(&Json::Null),
            groq.get("usage"),
            json.get("interaction").get("usage"),
            json.get("delta").get("usage"),
            json.get("usageMetadata"),
            of_list("usageMetadata", true),
            of_list("usage", completions),
            if self.is_body { json.get("meta") } else { &Json::Null },
        ];
        let is_meta = |usage: &Json| std::ptr::eq(usage, usages[10]);
        let usage = usages.iter().find(|usage| read(usage).is_some());
        let has_counts = usage.is_some();
        let usage = usage.or_else(|| usages.iter().find(|usage| has_anything(usage)));
        let usage = usage.copied().unwrap_or(&Json::Null);
        let unread = has_anything(usage).then(|| unread(usage) && !is_meta(usage));

        let tiers = [json, response].map(|place| named(place, "service_tier"));
        let tier = tiers.into_iter().flatten().next().or(tier_of(usage)).map(str::to_owned);
        self.tiers.extend(tier.clone());
        self.tier = tier.filter(|_| has_counts).or(self.tier.take());

        self.cost = match (self.cost, cost(usage)) {
            (Some(earlier), Some(cost)) if is_picture => Some(earlier + cost),
            (earlier, cost) => cost.or(earlier),
        };

        let beside =
            [json, response].map(|place| place.get("tool_usage").get("web_search").get("num_requests"));
        let beside = beside.into_iter().filter_map(Json::count).find(|count| *count > 0);
        let mut counted = counted(usage);
        if let Some(count) = beside {
            counted.entry("web_search").or_insert(count);
        }
        self.counted.extend(counted);

        let body = if self.is_body { billed(items(json.get("output"))) } else { Calls::new() };
        let listed = most(body, billed(items(response.get("output"))));
        self.is_unsure |=
            !(self.is_body || has_counts || is_terminal) && (beside.is_some() || !listed.is_empty());
        self.listed = most(std::mem::take(&mut self.listed), listed);
        if json.get("type").plain() == Some("response.output_item.done") {
            for (kind, count) in billed(std::slice::from_ref(json.get("item"))) {
                *self.done.entry(kind).or_default() += count;
            }
        }
        unread
    }

    pub(super) fn agree(&self, tally: &Tally, data: &str) {
        let tier = tally.service_tier.as_deref();
        // A name beyond the limit is ignored, and an escaped one is longer than its value.
        if self.tiers.iter().all(|tier| tier.len() < 10) {
            match &self.tier {
                Some(expected) => assert_eq!(tier, Some(&**expected), "{data:?}"),
                None => {
                    assert!(tier.is_none_or(|tier| self.tiers.iter().any(|named| named == tier)), "{data:?}")
                }
            }
        }
        let cost =
            tally.reported_cost.as_deref().map(|cost| cost.parse::<f64>().expect("a cost is a number"));
        let is_near = match (cost, self.cost) {
            (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * one.abs().max(1.0),
            // Amounts with many digits are not added.
            (cost, expected) => cost.is_none() && expected.is_none_or(|cost| cost > 1e15),
        };
        assert!(is_near, "{cost:?} instead of {:?}: {data:?}", self.cost);
        if !self.is_unsure {
            let mut expected = most(self.done.clone(), self.listed.clone());
            expected.extend(self.counted.clone());
            let calls = tally.tool_calls().unwrap_or_default();
            let calls: Calls = calls.iter().map(|(kind, count)| (kind, count.into())).collect();
            expected.values_mut().for_each(|count| *count = (*count).min(u32::MAX.into()));
            assert_eq!(calls, expected, "{data:?}");
        }
    }
}

fn items(list: &Json) -> &[Json] {
    if let Json::List(items) = list { items } else { &[] }
}

fn named<'a>(place: &'a Json, key: &str) -> Option<&'a str> {
    place.get(key).text().filter(|text| !text.is_empty())
}

fn tier_of(usage: &Json) -> Option<&str> {
    ["service_tier", "serviceTier", "trafficType"].into_iter().find_map(|key| named(usage, key))
}

fn has_anything(usage: &Json) -> bool {
    let tier = tier_of(usage).is_some() || unread(usage);
    matches!(usage, Json::Object(_))
        && (read(usage).is_some() || cost(usage).is_some() || tier || !counted(usage).is_empty())
}

fn cost(usage: &Json) -> Option<f64> {
    let cost = usage.get("cost");
    let currency = cost.get("currency");
    let in_dollars = matches!(currency, Json::Null) && cost.all("currency").next().is_none()
        || currency.plain() == Some("USD");
    amount(cost)
        .or_else(|| amount(cost.get("total_cost")).filter(|_| in_dollars))
        .or_else(|| usage.get("cost_in_usd_ticks").count().map(|ticks| ticks as f64 / 1e10))
}

fn amount(value: &Json) -> Option<f64> {
    match value {
        Json::Text { text, plain: true } => {
            serde_json::from_str::<f64>(text).ok().filter(|_| !text.contains(['-', ' ']))
        }
        other => other.seconds(),
    }
}

fn counted(usage: &Json) -> Calls {
    let of = |place: &str, key: &str| match usage.get(place) {
        Json::Object(_) => usage.get(place).all(key).filter_map(Json::count).sum(),
        _ => 0,
    };
    let places =
        ["server_tool_use", "server_tool_use_details", "server_side_tool_usage_details", "connectors"];
    let keys: [(&'static str, &[&str]); 7] = [
        ("web_search", &["web_search_requests", "web_search_calls", "web_search"]),
        ("web_fetch", &["web_fetch_requests"]),
        ("file_search", &["file_search_calls"]),
        ("code_interpreter", &["code_interpreter_calls", "code_execution_requests", "code_interpreter"]),
        ("image_generation", &["image_generation_calls", "image_generation"]),
        ("x_search", &["x_search_calls"]),
        ("document_search", &["document_search_calls"]),
    ];
    let mut calls = Calls::new();
    for (kind, keys) in keys {
        let most = places.map(|place| keys.iter().map(|key| of(place, key)).sum::<u64>()).into_iter().max();
        calls.insert(kind, most.unwrap_or(0));
    }
    let searches = usage.get("num_search_queries").count().unwrap_or(0);
    let web = calls.entry("web_search").or_default();
    *web = searches.max(*web);
    let units = ["tokens", "billed_units"].map(|name| usage.get(name).get("search_units").count());
    calls.insert("search_units", units.into_iter().flatten().max().unwrap_or(0));
    calls.insert("sources", usage.get("num_sources_used").count().unwrap_or(0));
    calls.retain(|_, count| *count > 0);
    calls
}

fn billed(items: &[Json]) -> Calls {
    let mut calls = Calls::new();
    for item in items {
        if item.get("status").plain() == Some("failed") {
            continue;
        }
        let kind = match item.get("type").plain() {
            Some("web_search_call") => match item.get("action").get("type").plain() {
                Some("open_page" | "find_in_page" | "find") => continue,
                _ => "web_search",
            },
            Some("file_search_call") => "file_search",
            Some("code_interpreter_call") => "code_interpreter",
            _ => continue,
        };
        *calls.entry(kind).or_default() += 1;
    }
    calls
}

fn most(mut one: Calls, other: Calls) -> Calls {
    for (kind, count) in other {
        let here = one.entry(kind).or_default();
        *here = count.max(*here);
    }
    one
}
