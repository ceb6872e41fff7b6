//! A page as OTLP has it.

use super::catalogue::Kind;
use super::page::{Family, Page, Sample, Value, in_unit};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// When values are counted from, and when they were read: nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) since: u64,
    pub(super) now: u64,
}

pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.to_owned()));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..Default::default() }
}

/// All that is on a page, of the process that `resource` describes.
pub(super) fn request(
    page: &Page,
    resource: &[KeyValue],
    version: &str,
    span: Span,
) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope {
        name: "callboard".to_owned(),
        version: version.to_owned(),
        ..Default::default()
    };
    let families = page.families().iter().filter(|family| !family.samples.is_empty());
    let metrics = families.map(|family| metric(family, span)).collect();
    let of_scope = ScopeMetrics { scope: Some(scope), metrics, ..Default::default() };
    let resource = Resource { attributes: resource.to_vec(), ..Default::default() };
    let all =
        ResourceMetrics { resource: Some(resource), scope_metrics: vec![of_scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![all] }
}

fn metric(family: &Family, span: Span) -> Metric {
    let of = family.metric;
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || family.samples.iter().filter_map(|sample| number(family, sample, span)).collect();
    let data = match of.kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Counter => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true })
        }
        Kind::Seconds | Kind::Items => {
            let points = family.samples.iter().filter_map(|sample| histogram(family, sample, span));
            Data::Histogram(Histogram { data_points: points.collect(), aggregation_temporality: cumulative })
        }
    };
    Metric {
        name: conventional(of.name).to_owned(),
        description: of.help.to_owned(),
        unit: unit(of.name).to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

/// What the conventions call what Prometheus has no dots for. Everything else is called the same.
fn conventional(name: &str) -> &str {
    match name {
        "gen_ai_client_operation_duration_seconds" => "gen_ai.client.operation.duration",
        "gen_ai_client_operation_time_to_first_chunk_seconds" => {
            "gen_ai.client.operation.time_to_first_chunk"
        }
        "gen_ai_client_token_usage" => "gen_ai.client.token.usage",
        "gen_ai_operation_name" => "gen_ai.operation.name",
        "gen_ai_provider_name" => "gen_ai.provider.name",
        "gen_ai_request_model" => "gen_ai.request.model",
        "gen_ai_token_type" => "gen_ai.token.type",
        "error_type" => "error.type",
        name => name,
    }
}

/// A label of ours beside those of a convention is named as in spans.
fn name_of_label<'a>(of: &super::Metric, label: &'a str) -> &'a str {
    match label {
        "provider" if of.name.starts_with("gen_ai_") => "callboard.provider",
        label => conventional(label),
    }
}

/// In the notation of UCUM, by the unit that the name ends with.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    if name.ends_with("_seconds") {
        "s"
    } else if name.ends_with("_bytes") {
        "By"
    } else if name == "gen_ai_client_token_usage" {
        "{token}"
    } else {
        "1"
    }
}

fn attributes(family: &Family, sample: &Sample) -> Vec<KeyValue> {
    let labels = family.metric.labels.iter().zip(&sample.labels);
    // An answered call has no type of an error.
    let labels = labels.filter(|(key, value)| **key != "error_type" || !value.is_empty());
    labels.map(|(key, value)| attribute(name_of_label(family.metric, key), value)).collect()
}

fn number(family: &Family, sample: &Sample, span: Span) -> Option<NumberDataPoint> {
    let value = match &sample.value {
        Value::Whole(number) => number_data_point::Value::AsInt(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Real(number) => number_data_point::Value::AsDouble(*number),
        Value::Spread(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(family, sample),
        start_time_unix_nano: span.since,
        time_unix_nano: span.now,
        value: Some(value),
        ..Default::default()
    })
}

fn histogram(family: &Family, sample: &Sample, span: Span) -> Option<HistogramDataPoint> {
    let Value::Spread(spread) = &sample.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(family, sample),
        start_time_unix_nano: span.since,
        time_unix_nano: span.now,
        count: spread.count(),
        sum: Some(in_unit(family.metric, spread.sum)),
        bucket_counts: spread.buckets.clone(),
        explicit_bounds: spread.bounds.iter().map(|bound| in_unit(family.metric, *bound)).collect(),
        ..Default::default()
    })
}
