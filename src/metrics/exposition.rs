//! The table of metrics as OpenMetrics text, which Prometheus reads.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::families::{FAMILIES, Family, Kind, Number, Series, Sources};
use super::own::Own;
use super::{Metrics, now_ns};

/// What kind of text it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All of `metrics` as they are now.
pub fn text(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::with_prefix("fnscope");
    registry.register_collector(Box::new(Told(metrics.clone())));
    let mut text = String::with_capacity(16 << 10);
    // A string takes everything that is written to it.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Told(Arc<Metrics>);

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let sources = Sources { metrics: &self.0, own: Own::read(), now_ns: now_ns() };
        for family in FAMILIES {
            encode(family, &(family.series)(&sources), &mut encoder)?;
        }
        Ok(())
    }
}

fn encode(
    family: &Family,
    series: &[Series],
    encoder: &mut DescriptorEncoder,
) -> Result<(), std::fmt::Error> {
    let unit = match family.unit {
        "" => None,
        "bytes" => Some(Unit::Bytes),
        "seconds" => Some(Unit::Seconds),
        other => Some(Unit::Other(other.into())),
    };
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Info => MetricType::Info,
    };
    // Of a text that ends with a full stop by its own rule, the encoder needs none.
    let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    for Series { labels, value } in series {
        match (family.kind, labels.is_empty()) {
            (Kind::Info, _) => metric.encode_info(labels)?,
            (_, true) => number(&mut metric, family.kind, *value)?,
            (_, false) => number(&mut metric.encode_family(labels)?, family.kind, *value)?,
        }
    }
    Ok(())
}

fn number(metric: &mut MetricEncoder, kind: Kind, value: Number) -> Result<(), std::fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Number::Whole(value)) => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        (Kind::Counter, Number::Real(value)) => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        (_, Number::Whole(value)) => metric.encode_gauge(&value),
        (_, Number::Real(value)) => metric.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_units_and_labels_stand_where_prometheus_looks_for_them() {
        let metrics = Arc::new(Metrics::new(&["docker"]));
        metrics.samples.set(7);
        metrics.store_bytes.set(u64::MAX);
        metrics.steps.take("rate", 0);
        metrics.last_flush_us.set(1_700_000_000_500_000);
        let text = text(&metrics);
        for line in [
            "# TYPE fnscope_samples counter",
            "fnscope_samples_total 7",
            "# UNIT fnscope_store_written_bytes bytes",
            "fnscope_store_written_bytes_total 18446744073709551615",
            "fnscope_samples_dropped_total{reason=\"shutdown\"} 0",
            "fnscope_runtime_up{runtime=\"docker\"} 0",
            "fnscope_degraded{step=\"rate\"} 1",
            "fnscope_degradations_total{step=\"rate\"} 1",
            "fnscope_last_flush_timestamp_seconds 1700000000.5",
            "fnscope_mode{mode=\"off\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("fnscope_build_info{version=\""), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
