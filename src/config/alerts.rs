//! `[[alerts]]`: webhooks that get notices of limits that are used up, of upstreams that are out, of
//! trouble of the ledger, and of spikes of cost.

use super::alert_template::AlertTemplate;
use super::forward_proxy;
use super::kind::{Kind, Shape, boolean, list, parsed};
use super::network::Network;
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::secrets::secret;
use super::settings::{Alert, LedgerSettings, WebhookUrl};
use super::upstreams::is_local;
use crate::llm::price::Prices;
use crate::llm::provider::BaseUrl;
use crate::support::secret::Secret;

/// The largest number of webhooks, and of thresholds of one.
const MAX_ALERTS: usize = 16;
const MAX_THRESHOLDS: usize = 8;

/// The largest threshold.
const MAX_THRESHOLD: f64 = 100.0;

/// The body that Slack, Mattermost and others understand.
const TEMPLATE: &str = r#"{"text": "${message}"}"#;

/// The webhooks in the order of the file.
pub(super) fn alerts(root: &Table<'_>, network: Option<&Network>) -> Read<Vec<Alert>> {
    let tables = root.tables("alerts")?;
    if let Some(entry) = tables.get(MAX_ALERTS) {
        return Err(entry.mistake(format!("is one too many: there may be {MAX_ALERTS}")));
    }
    all(tables.into_iter().map(|entry| entry.table(|table| alert(table, network))))
}

/// Reports spikes of costs that nothing can know.
pub(super) fn check_spikes(root: &Table<'_>, alerts: &[Alert], ledger: &LedgerSettings, prices: &Prices) {
    let missing = match (&ledger.path, prices.is_empty()) {
        (None, _) => "ledger.path is \"\": name a file",
        (_, true) => "there are no [[prices]]: add them",
        (Some(_), false) => return,
    };
    let Ok(tables) = root.tables("alerts") else { return };
    for (entry, _) in tables.iter().zip(alerts).filter(|(_, alert)| alert.spikes.is_some()) {
        entry.mistake(format!("has spikes of cost, and {missing}"));
    }
}

fn alert(table: &Table<'_>, network: Option<&Network>) -> Read<Alert> {
    let url = secret().then(|entry, text| url(entry, &text));
    let template = parsed("JSON text", None, "text in quotes", AlertTemplate::parse);
    let thresholds = table.or_default("limits", thresholds().default(vec![0.8, 1.0]));
    let upstreams = table.or_default("upstreams", boolean().default(true));
    let ledger = table.or_default("ledger", boolean().default(true));
    let spikes = table.optional("spikes", floor());
    let url = table.required("url", "write url = { env = \"NAME\" } or { file = \"PATH\" }", url);
    let signing_key = table.optional("signing_key", secret());
    let template = table.or_default("template", template.default(TEMPLATE));
    let proxy = match (&url, network) {
        (Ok(url), Some(network)) => {
            forward_proxy::chosen(table, &url.base, None, network.proxy.as_ref()).map(|(proxy, _)| proxy)
        }
        _ => Ok(None),
    };
    let (thresholds, upstreams, ledger, spikes) = (thresholds?, upstreams?, ledger?, spikes?);
    if thresholds.is_empty() && !upstreams && !ledger && spikes.is_none() {
        let reason =
            "is empty, upstreams and ledger are false, and there is no spikes: there is nothing to tell";
        return Err(table.mistake("limits", reason));
    }
    Ok(Alert {
        url: url?,
        signing_key: signing_key?,
        thresholds,
        upstreams,
        ledger,
        spikes,
        template: template?,
        proxy: proxy?,
    })
}

/// Reads a URL that may contain a secret, so that no message repeats it.
fn url(entry: &Entry<'_>, text: &Secret) -> Read<WebhookUrl> {
    let text = text.expose();
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let has_slash = base.ends_with('/');
    let base = BaseUrl::parse(base).map_err(|reason| entry.mistake(reason))?;
    if query.is_some_and(|query| !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')) {
        return Err(entry.mistake("its query has a fragment, spaces, control characters, or is not ASCII"));
    }
    if !base.is_https() && !is_local(base.host()) {
        entry.warning("is http:// to another machine: it is sent in the clear, with the alerts");
    }
    Ok(WebhookUrl { base, has_slash, query: query.map(|query| Secret::new(query.to_owned())) })
}

/// The cost of an hour above which a webhook gets a spike.
fn floor() -> Kind<impl Fn(&Entry<'_>) -> Read<f64>> {
    const WHAT: &str = "the cost of an hour above which it is a spike, such as 10";
    Kind::new(Shape::Number(None), |entry: &Entry<'_>| match entry.decimal(WHAT)?.parse::<f64>() {
        Ok(floor) if floor > 0.0 && floor.is_finite() => Ok(floor),
        _ => Err(entry.mistake(format!("must be {WHAT}, and more than 0"))),
    })
}

/// Used parts of limits, ascending, each once.
fn thresholds() -> Kind<impl FnOnce(&Entry<'_>) -> Read<Vec<f64>>> {
    const WHAT: &str = "a part of a limit, such as 0.8; 1 is all of it";
    let one = Kind::new(Shape::Number(Some(MAX_THRESHOLD)), |entry: &Entry<'_>| {
        match entry.decimal(WHAT)?.parse() {
            Ok(part) if part > 0.0 && part <= MAX_THRESHOLD => Ok(part),
            _ => Err(entry.mistake(format!("must be {WHAT}, and at most {MAX_THRESHOLD}"))),
        }
    });
    list(one).then(|entry, mut parts: Vec<f64>| {
        if parts.len() > MAX_THRESHOLDS {
            return Err(entry.mistake(format!("has more than {MAX_THRESHOLDS} thresholds")));
        }
        parts.sort_by(f64::total_cmp);
        parts.dedup();
        Ok(parts)
    })
}
