//! The text formats of metrics.

use http::HeaderMap;
use http::header::ACCEPT;

/// A text format. Prometheus and similar systems ask for OpenMetrics; a client that names none
/// (`curl`, most agents, a pipe to `promtool check metrics`) gets the older one, which all of them
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

impl Exposition {
    /// The format that a request's `Accept` prefers.
    pub fn asked_for(headers: &HeaderMap) -> Self {
        let weight = |name| weight(headers, name);
        let openmetrics = weight("application/openmetrics-text");
        if openmetrics > 0.0 && openmetrics >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts OpenMetrics into this format.
    pub(super) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Prometheus => to_prometheus(&openmetrics),
        }
    }
}

/// The highest weight (RFC 9110 section 12.4.2) that `Accept` gives a media type by its name; 0 if
/// it does not name it.
fn weight(headers: &HeaderMap, media_type: &str) -> f32 {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let ranges = lines.flat_map(|line| line.split(','));
    let weights = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case(media_type);
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        is_it.then(|| weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
    });
    weights.fold(0.0, f32::max)
}

/// Converts to the older format. The samples are equal. The family of a counter has the name of its
/// samples, with `_total`, and there are no units and no end mark.
fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The help of a family precedes its type.
        let of_counter =
            |line: &str| line.strip_prefix("# TYPE ").is_some_and(|line| line.ends_with(" counter"));
        let is_counters = of_counter(line)
            || (line.starts_with("# HELP ") && lines.peek().is_some_and(|next| of_counter(next)));
        match line.match_indices(' ').nth(2) {
            Some((end, _)) if is_counters => {
                text.extend([&line[..end], "_total", &line[end..]]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(accept: &[&'static str]) -> Exposition {
        let lines = accept.iter().map(|line| (ACCEPT, http::HeaderValue::from_static(line)));
        Exposition::asked_for(&lines.collect())
    }

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        for accept in [
            // Prometheus 2.42 and 3.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.1",
            "Application/OpenMetrics-Text; Q=0.1",
        ] {
            assert_eq!(asked_for(&[accept]), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "*/*",
            "text/html,*/*;q=0.8",
            "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=much",
            "application/openmetrics-text2",
        ] {
            assert_eq!(asked_for(&[accept]), Exposition::Prometheus, "{accept}");
        }
        assert_eq!(asked_for(&[]), Exposition::Prometheus);
        assert_eq!(asked_for(&["text/plain;q=0.5", "application/openmetrics-text"]), Exposition::OpenMetrics);
    }

    #[test]
    fn older_format_has_same_samples_under_its_family_names() {
        let openmetrics = "# HELP a_b Times, a counter\n# TYPE a_b counter\na_b_total{x=\"# EOF counter\"} 3\n\
                           # HELP c_seconds Of a counter\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\n\
                           c_seconds_sum 1.5\n# EOF\n";
        let prometheus = "# HELP a_b_total Times, a counter\n# TYPE a_b_total counter\n\
                          a_b_total{x=\"# EOF counter\"} 3\n# HELP c_seconds Of a counter\n\
                          # TYPE c_seconds histogram\nc_seconds_sum 1.5\n";
        assert_eq!(Exposition::Prometheus.of(openmetrics.to_owned()), prometheus);
        assert_eq!(Exposition::OpenMetrics.of(openmetrics.to_owned()), openmetrics);
    }
}
