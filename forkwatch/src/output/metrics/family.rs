//! Families of samples, as plain data: name, help and label names stand once, and the compiler counts the values.

use forkwatch_ebpf::{Durations, LATENCY_BOUNDS};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// A family with `N` labels.
pub(super) struct Family<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
}

impl<const N: usize> Family<N> {
    pub(super) const fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, help, labels }
    }

    pub(super) fn counters<'a>(
        &self,
        samples: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) -> MetricFamily {
        self.counters_of_floats(samples.into_iter().map(|(values, count)| (values, float(count))))
    }

    pub(super) fn counters_of_floats<'a>(
        &self,
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> MetricFamily {
        let metrics = samples.into_iter().map(|(values, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = self.metric(values);
            metric.set_counter(counter);
            metric
        });
        self.family(MetricType::COUNTER, metrics.collect())
    }

    pub(super) fn gauges<'a>(&self, samples: impl IntoIterator<Item = ([&'a str; N], f64)>) -> MetricFamily {
        let metrics = samples.into_iter().map(|(values, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = self.metric(values);
            metric.set_gauge(gauge);
            metric
        });
        self.family(MetricType::GAUGE, metrics.collect())
    }

    /// From the kernel's buckets, one histogram for each set of label values.
    pub(super) fn histograms<'a>(
        &self,
        samples: impl IntoIterator<Item = ([&'a str; N], Buckets<'a>)>,
    ) -> MetricFamily {
        let metrics = samples.into_iter().map(|(values, buckets)| {
            let mut metric = self.metric(values);
            metric.set_histogram(buckets.histogram());
            metric
        });
        self.family(MetricType::HISTOGRAM, metrics.collect())
    }

    fn metric(&self, values: [&str; N]) -> Metric {
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    fn family(&self, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
    }
}

impl Family<0> {
    pub(super) fn counter(&self, value: u64) -> MetricFamily {
        self.counters([([], value)])
    }

    pub(super) fn gauge(&self, value: f64) -> MetricFamily {
        self.gauges([([], value)])
    }

    pub(super) fn histogram(&self, buckets: Buckets<'_>) -> MetricFamily {
        self.histograms([([], buckets)])
    }
}

/// A histogram as the kernel side keeps it.
pub(super) struct Buckets<'a> {
    /// Upper bounds, in the metric's unit.
    pub(super) bounds: Vec<f64>,
    /// Counts: one more than there are bounds, for what is above them all.
    pub(super) counts: &'a [u64],
    /// Sum, in the metric's unit.
    pub(super) sum: f64,
}

impl<'a> Buckets<'a> {
    pub(super) fn of_durations(durations: &'a Durations) -> Self {
        let bounds = LATENCY_BOUNDS.iter().copied().map(seconds).collect();
        Self { bounds, counts: &durations.buckets, sum: seconds(durations.sum) }
    }

    fn histogram(&self) -> Histogram {
        let mut total = 0_u64;
        let buckets = self.bounds.iter().zip(self.counts).map(|(bound, count)| {
            total = total.saturating_add(*count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count)));
        histogram.set_sample_sum(self.sum);
        histogram
    }
}

/// Prometheus knows only floats.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and Prometheus itself stores no more")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// Nanoseconds as seconds, the base unit.
pub(super) const fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}
