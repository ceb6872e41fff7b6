//! Where a node's spans go, by OpenTelemetry's own variables.
//!
//! Off unless an endpoint is named: `OTEL_EXPORTER_OTLP_ENDPOINT`, or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or
//! `OTEL_TRACES_EXPORTER=otlp` for the standard's default. The SDK reads what else there is: headers, time limits,
//! the queue's bounds, attributes of the resource.

use super::VERSION;
use callboard_backends::trace::otlp::{Options, Otlp};
use callboard_ports::trace::{Sampling, Tracer};
use callboard_provider_broker::Env;
use std::sync::Arc;
use std::time::Duration;

/// Where a collector is if only the exporter is named.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";
/// What a node is called if nobody calls it anything else.
const SERVICE: &str = "callboard";

/// What begins spans, and what takes them away if anything does.
pub(in crate::node) struct Telemetry {
    pub(in crate::node) tracer: Tracer,
    pub(in crate::node) otlp: Option<Arc<Otlp>>,
}

impl Telemetry {
    /// As the environment says. `slow` is from when on what took so long is kept whatever the sampling.
    ///
    /// # Errors
    /// A variable says what cannot be done.
    pub(super) fn open(env: &Env, node: &str, slow: Duration) -> Result<Self, String> {
        let random = || Arc::new(rand::random::<u64>);
        let Some(Settings { endpoint, service, ratio }) = Settings::read(&**env)? else {
            return Ok(Self { tracer: Tracer::off(random()), otlp: None });
        };
        let options = Options { endpoint, service, instance: node.to_owned(), version: VERSION };
        let otlp = Otlp::new(&options).map_err(|error| error.to_string())?;
        let tracer = Tracer::new(random(), otlp.clone(), Sampling { ratio, slow });
        tracing::info!(endpoint = options.endpoint, ratio, "spans are exported");
        Ok(Self { tracer, otlp: Some(otlp) })
    }
}

#[derive(Debug, PartialEq)]
struct Settings {
    endpoint: String,
    service: String,
    ratio: f64,
}

impl Settings {
    fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // As the standard asks, an empty variable is none.
        let var =
            |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let endpoint =
            var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let is_disabled = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = var("OTEL_TRACES_EXPORTER");
        let endpoint = match exporter.as_deref() {
            _ if is_disabled => None,
            None => endpoint,
            Some("none") => None,
            Some("otlp") => Some(endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned())),
            Some(other) => {
                return Err(format!("OTEL_TRACES_EXPORTER: `{other}` is not there; there are: otlp, none"));
            }
        };
        let Some(endpoint) = endpoint else { return Ok(None) };
        let protocol =
            var("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| var("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(other) = protocol.filter(|protocol| protocol != "grpc") {
            return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL: `{other}` is not there; there is: grpc"));
        }
        let ratio = ratio(var("OTEL_TRACES_SAMPLER").as_deref(), var("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        let service = var("OTEL_SERVICE_NAME").unwrap_or_else(|| SERVICE.to_owned());
        Ok(Some(Self { endpoint, service, ratio }))
    }
}

/// The share of new traces that is sampled. What others began is always as they say.
fn ratio(sampler: Option<&str>, argument: Option<&str>) -> Result<f64, String> {
    match sampler {
        None | Some("parentbased_always_on") => Ok(1.0),
        Some("parentbased_always_off") => Ok(0.0),
        Some("parentbased_traceidratio") => {
            let text = argument.unwrap_or("1");
            let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or_else(|| format!("OTEL_TRACES_SAMPLER_ARG: must be 0 to 1, not `{text}`"))
        }
        Some(other) => Err(format!(
            "OTEL_TRACES_SAMPLER: `{other}` is not there; there are: parentbased_always_on, \
             parentbased_always_off, parentbased_traceidratio"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        Settings::read(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nothing_is_exported_unless_somebody_says_where_to() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(None));
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
        let settings = read(&[endpoint]).unwrap().unwrap();
        let expected = Settings { endpoint: "http://c:4317".into(), service: "callboard".into(), ratio: 1.0 };
        assert_eq!(settings, expected);
        let named =
            read(&[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_SERVICE_NAME", "mine")]).unwrap().unwrap();
        assert_eq!((named.endpoint.as_str(), named.service.as_str()), (DEFAULT_ENDPOINT, "mine"));
        let own =
            read(&[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317")]).unwrap().unwrap();
        assert_eq!(own.endpoint, "http://t:4317");
    }

    #[test]
    fn a_share_of_the_traces_is_sampled() {
        assert_eq!(ratio(Some("parentbased_traceidratio"), Some("0.1")), Ok(0.1));
        assert_eq!(ratio(Some("parentbased_traceidratio"), None), Ok(1.0));
        assert_eq!(ratio(Some("parentbased_always_off"), Some("0.1")), Ok(0.0));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        let wrong = |name, value| read(&[endpoint, (name, value)]).unwrap_err();
        assert!(wrong("OTEL_TRACES_EXPORTER", "zipkin").contains("otlp, none"));
        assert!(wrong("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").contains("grpc"));
        assert!(wrong("OTEL_TRACES_SAMPLER", "always_on").contains("parentbased_always_on"));
        assert!(ratio(Some("parentbased_traceidratio"), Some("2")).unwrap_err().contains("`2`"));
    }
}
