//! `[otlp]`: the OpenTelemetry collector that spans and metrics are sent to.

use super::forward_proxy;
use super::headers::headers;
use super::network::Network;
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::sections::time;
use super::settings::Otlp;
use super::tls;
use super::upstreams::is_loopback;
use crate::provider::BaseUrl;
use crate::traceparent::Sampling;

/// The resource attribute that `service_name` says.
const SERVICE_NAME: &str = "service.name";

/// The collector, if there is one. `network` is what is said of proxies, if it could be read.
pub(super) fn otlp(table: &Table<'_>, network: Option<&Network>) -> Read<Option<Otlp>> {
    let url = table.defaulted("endpoint", |entry| match entry.as_text() {
        Some("") => Ok(None),
        _ => {
            let url = entry.parse("a URL in quotes, such as \"http://127.0.0.1:4318\"", BaseUrl::parse)?;
            Ok(Some(without_signal(url, entry)))
        }
    });
    let headers = headers(table);
    let traces = table.defaulted("traces", Entry::boolean);
    let sample = table.defaulted("sample", share);
    let metrics = table.defaulted("metrics", Entry::boolean);
    let interval = table.defaulted("interval", time);
    let timeout = table.defaulted("timeout", time);
    let gzip = table.defaulted("compression", |entry| {
        entry.parse("\"gzip\" or \"none\"", |text| match text {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err(format!("{text:?} is neither \"gzip\" nor \"none\"")),
        })
    });
    let service_name = table.defaulted("service_name", |entry| match entry.text()? {
        "" => Err(entry.mistake("is empty: a collector tells services apart by it")),
        name => Ok(name.to_owned()),
    });
    let resource = resource(table);
    let tls = table
        .optional("tls", |entry| entry.table(|table| tls::client(table)?.settings(table.at(&[tls::ADDS]))));
    if let (Some(entry), Ok(Some(url))) = (table.at(&["tls"]), &url)
        && !url.is_https()
    {
        entry.mistake("says nothing of an http:// endpoint: write https:// there, or take this table out");
    }
    if let (Ok(Some(url)), Ok(headers)) = (&url, &headers)
        && headers.iter().any(|(_, value)| value.is_sensitive())
        && !url.is_https()
        && !is_loopback(url.host())
    {
        table
            .warning("endpoint", "is http:// to another machine: the headers' secrets are sent in the clear");
    }
    let proxy = match (&url, network) {
        (Ok(Some(url)), Some(network)) => forward_proxy::way(table, url, None, network.proxy.as_ref()),
        _ => Ok((None, String::new())),
    };
    let (url, traces, metrics, sample) = (url?, traces?, metrics?, sample?);
    if url.is_some() && !traces && !metrics {
        return Err(table.mistake("traces", "and metrics are both false: endpoint = \"\" sends nothing"));
    }
    let Some(url) = url else {
        let rest = headers.and(interval).and(timeout).and(gzip).and(service_name).and(resource).and(tls);
        return rest.map(|_| None);
    };
    Ok(Some(Otlp {
        url,
        headers: headers?,
        traces: traces.then(|| Sampling::new(sample)),
        metrics: metrics.then_some(interval?),
        timeout: timeout?,
        gzip: gzip?,
        service_name: service_name?,
        resource: resource?,
        proxy: proxy?.0,
        tls: tls?.unwrap_or_default(),
    }))
}

/// The URL that the paths of the signals are put on, also where one of them was written
/// (opentelemetry.io/docs/specs/otlp/#otlphttp-request).
fn without_signal(url: BaseUrl, entry: &Entry<'_>) -> BaseUrl {
    let text = url.to_string();
    let base = ["/v1/traces", "/v1/metrics", "/v1/logs"].iter().find_map(|signal| text.strip_suffix(signal));
    match base.map(|base| (base, BaseUrl::parse(base))) {
        Some((base, Ok(stripped))) => {
            entry.warning(&format!("ends with the path of a signal, which is put on: taken for {base:?}"));
            stripped
        }
        _ => url,
    }
}

/// A number from 0 to 1.
fn share(entry: &Entry<'_>) -> Read<f64> {
    const SHARE: &str = "a number from 0 to 1, such as 0.1";
    let text = match entry.as_text() {
        Some(text) if entry.is_from_environment() => text.to_owned(),
        _ => entry.decimal(SHARE)?,
    };
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(entry.mistake(format!("must be {SHARE}"))),
    }
}

/// Attributes of what is sent as a whole.
fn resource(table: &Table<'_>) -> Read<Vec<(String, String)>> {
    all(table.names("resource")?.into_iter().map(|(name, entry)| {
        let value = entry.text()?.to_owned();
        if name == SERVICE_NAME {
            return Err(entry.mistake("is said by otlp.service_name"));
        }
        Ok((name, value))
    }))
}
