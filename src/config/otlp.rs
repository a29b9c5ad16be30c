//! `[otlp]`: the OpenTelemetry collector that gets spans and metrics.

use super::forward_proxy;
use super::headers::headers;
use super::kind::{Kind, Shape, boolean, choice, parsed, text, time};
use super::network::Network;
use super::notes::Read;
use super::reader::{Entry, Table, all};
use super::settings::OtlpSettings;
use super::tls;
use super::upstreams::{URL_PATTERN, is_local};
use crate::codec::traceparent::Sampling;
use crate::llm::provider::BaseUrl;

/// The resource attribute that `service_name` sets.
const SERVICE_NAME: &str = "service.name";

/// The collector, if there is one. `network` is the valid `[network]`.
pub(super) fn otlp(table: &Table<'_>, network: Option<&Network>) -> Read<Option<OtlpSettings>> {
    const COMPRESSIONS: &[(&str, bool)] = &[("gzip", true), ("none", false)];
    let url =
        parsed("URL", URL_PATTERN, "a URL in quotes, such as \"http://127.0.0.1:4318\"", BaseUrl::parse);
    let url = table.defaulted("endpoint", url.then(|entry, url| Ok(without_signal(url, entry))).or_empty());
    let headers = headers(table);
    let traces = table.defaulted("traces", boolean());
    let sample = table.defaulted("sample", share());
    let metrics = table.defaulted("metrics", boolean());
    let interval = table.defaulted("interval", time());
    let timeout = table.defaulted("timeout", time());
    let gzip = table.defaulted("compression", choice(COMPRESSIONS));
    let service_name = table.defaulted(
        "service_name",
        text().then(|entry, name| match name.as_str() {
            "" => Err(entry.mistake("is empty: collectors tell services apart by their name")),
            _ => Ok(name),
        }),
    );
    let resource = resource(table);
    let tls = table.table("tls", tls::client_settings);
    if let (Some(entry), Ok(Some(url))) = (table.at(&["tls"]), &url)
        && !url.is_https()
    {
        entry.mistake("has no effect on an http:// endpoint: write https:// there, or remove this table");
    }
    if let (Ok(Some(url)), Ok(headers)) = (&url, &headers)
        && headers.iter().any(|(_, value)| value.is_sensitive())
        && !url.is_https()
        && !is_local(url.host())
    {
        table
            .warning("endpoint", "is http:// to another machine: the headers' secrets are sent in the clear");
    }
    let proxy = match (&url, network) {
        (Ok(Some(url)), Some(network)) => forward_proxy::chosen(table, url, None, network.proxy.as_ref()),
        _ => Ok((None, String::new())),
    };
    let (url, traces, metrics, sample) = (url?, traces?, metrics?, sample?);
    if url.is_some() && !traces && !metrics {
        return Err(
            table.mistake("traces", "and metrics are both false: write endpoint = \"\" to send nothing")
        );
    }
    let Some(url) = url else {
        let rest = headers.and(interval).and(timeout).and(gzip).and(service_name).and(resource).and(tls);
        return rest.map(|_| None);
    };
    Ok(Some(OtlpSettings {
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

/// The URL to which the signals' paths are appended, also if the user wrote one of these paths
/// (opentelemetry.io/docs/specs/otlp/#otlphttp-request).
fn without_signal(url: BaseUrl, entry: &Entry<'_>) -> BaseUrl {
    let text = url.to_string();
    let base = ["/v1/traces", "/v1/metrics", "/v1/logs"].iter().find_map(|signal| text.strip_suffix(signal));
    match base.map(|base| (base, BaseUrl::parse(base))) {
        Some((base, Ok(stripped))) => {
            entry
                .warning(&format!("ends with the path of a signal, which is added anyway: read as {base:?}"));
            stripped
        }
        _ => url,
    }
}

/// A number from 0 to 1.
fn share() -> Kind<impl FnOnce(&Entry<'_>) -> Read<f64>> {
    const SHARE: &str = "a number from 0 to 1, such as 0.1";
    Kind::new(Shape::Number(Some(1.0)), |entry: &Entry<'_>| match entry.decimal(SHARE)?.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(entry.mistake(format!("must be {SHARE}"))),
    })
}

/// The attributes of all exports.
fn resource(table: &Table<'_>) -> Read<Vec<(String, String)>> {
    all(table.names("resource", None, Shape::Text("text", None))?.into_iter().map(|(name, entry)| {
        let value = entry.text("text in quotes")?.to_owned();
        if name == SERVICE_NAME {
            return Err(entry.mistake("is set by otlp.service_name"));
        }
        Ok((name, value))
    }))
}
