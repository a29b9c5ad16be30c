//! A histogram with explicit bounds, counted from the start of the process (cumulative
//! temporality).

use std::collections::HashMap;
use std::hash::Hash;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram as Points, HistogramDataPoint, Metric,
};

/// The largest number of series of one histogram, the limit of OpenTelemetry's SDKs. Values beyond
/// it are counted in one last series.
pub(super) const MAX_SERIES: usize = 2000;

/// Name, unit and bounds of a histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// The unit, in UCUM.
    pub(super) unit: &'static str,
    /// The upper bounds of all buckets except the last, which has none. A value on a bound belongs
    /// to the bucket below it.
    pub(super) bounds: &'static [f64],
}

/// Counts by label. `None` counts everything beyond [`MAX_SERIES`].
#[derive(Debug)]
pub(super) struct Histogram<L> {
    kind: Kind,
    series: HashMap<Option<L>, Series>,
}

#[derive(Debug)]
struct Series {
    buckets: Box<[u64]>,
    sum: f64,
    least: f64,
    most: f64,
}

impl<L: Eq + Hash> Histogram<L> {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, series: HashMap::new() }
    }

    pub(super) fn observe(&mut self, labels: L, value: f64) {
        let labels = Some(labels);
        let has_room = self.series.len() < MAX_SERIES || self.series.contains_key(&labels);
        let bounds = self.kind.bounds;
        let series = self.series.entry(labels.filter(|_| has_room)).or_insert_with(|| Series {
            buckets: vec![0; bounds.len() + 1].into(),
            sum: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
        });
        series.buckets[bounds.partition_point(|bound| *bound < value)] += 1;
        series.sum += value;
        series.least = series.least.min(value);
        series.most = series.most.max(value);
    }

    /// The name, if there were more series than [`MAX_SERIES`].
    pub(super) fn overflowing(&self) -> Option<&'static str> {
        self.series.contains_key(&None).then_some(self.kind.name)
    }

    /// The metric at `now`, counted since `start`; both in nanoseconds since 1970. `None` if
    /// nothing was counted.
    pub(super) fn metric(
        &self,
        start: u64,
        now: u64,
        attributes: impl Fn(Option<&L>) -> Vec<KeyValue>,
    ) -> Option<Metric> {
        let points = self.series.iter().map(|(labels, series)| HistogramDataPoint {
            attributes: attributes(labels.as_ref()),
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: series.buckets.iter().sum(),
            sum: Some(series.sum),
            bucket_counts: series.buckets.to_vec(),
            explicit_bounds: self.kind.bounds.to_vec(),
            min: Some(series.least),
            max: Some(series.most),
            ..HistogramDataPoint::default()
        });
        let data_points: Vec<_> = points.collect();
        let temporality = AggregationTemporality::Cumulative.into();
        (!data_points.is_empty()).then(|| Metric {
            name: self.kind.name.to_owned(),
            description: self.kind.description.to_owned(),
            unit: self.kind.unit.to_owned(),
            data: Some(Data::Histogram(Points { data_points, aggregation_temporality: temporality })),
            ..Metric::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { name: "h", description: "", unit: "s", bounds: &[1.0, 2.0, 4.0] };

    fn points(histogram: &Histogram<usize>) -> Vec<HistogramDataPoint> {
        let metric = histogram.metric(1, 2, |labels| match labels {
            Some(_) => Vec::new(),
            None => vec![KeyValue::default()],
        });
        let Some(Metric { data: Some(Data::Histogram(points)), .. }) = metric else { return Vec::new() };
        points.data_points
    }

    #[test]
    fn a_value_is_counted_below_its_bound() {
        let mut histogram = Histogram::new(KIND);
        assert!(points(&histogram).is_empty(), "what has never been counted is no metric");
        for value in [0.0, 1.0, 1.5, 2.0, 4.0, 4.5, 100.0] {
            histogram.observe(7, value);
        }
        let [point] = &points(&histogram)[..] else { panic!("one series") };
        assert_eq!(point.bucket_counts, [2, 2, 1, 2]);
        assert_eq!((point.count, point.sum, point.min, point.max), (7, Some(113.0), Some(0.0), Some(100.0)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
    }

    #[test]
    fn series_beyond_the_limit_are_one_together() {
        let mut histogram = Histogram::new(KIND);
        for labels in 0..MAX_SERIES {
            histogram.observe(labels, 1.0);
        }
        assert_eq!(histogram.overflowing(), None);
        for labels in MAX_SERIES..MAX_SERIES + 10 {
            histogram.observe(labels, 1.0);
        }
        assert_eq!(histogram.overflowing(), Some("h"));
        histogram.observe(0, 1.0);
        let points = points(&histogram);
        assert_eq!(points.len(), MAX_SERIES + 1);
        let others: Vec<_> = points.iter().filter(|point| !point.attributes.is_empty()).collect();
        assert_eq!(others.iter().map(|point| point.count).collect::<Vec<_>>(), [10]);
    }
}
