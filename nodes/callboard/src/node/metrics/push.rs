//! Takes the metrics to a collector of OpenTelemetry, by OpenTelemetry's own variables.
//!
//! Values are cumulative and read anew each time: what a collector missed is in the next, nothing is kept for it, and one
//! export is under way at a time. So a collector that is away costs a failed call a minute, and nothing grows.
//!
//! Not by the SDK: what it exports is made from its own instruments alone, and none of them shows a histogram that
//! somebody else has counted (decision 0010).

use super::otlp::{self, Span, attribute};
use super::{Metrics, Page};
use callboard_provider_broker::Env;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// Where a collector is if only the exporter is named.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";
/// What a node is called if nobody calls it anything else.
const SERVICE: &str = "callboard";
/// As the standard has them.
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last values may take to leave.
const LAST: Duration = Duration::from_secs(2);

type Header = (MetadataKey<Ascii>, MetadataValue<Ascii>);

/// What the environment asks for.
#[derive(Debug, PartialEq)]
pub(in crate::node) struct Settings {
    endpoint: String,
    every: Duration,
    within: Duration,
    headers: Vec<Header>,
    /// What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say.
    resource: Vec<(String, String)>,
}

impl Settings {
    /// `None`: nothing is to be exported.
    ///
    /// # Errors
    /// A variable asks for what is not there.
    pub(in crate::node) fn read(env: &Env) -> Result<Option<Self>, String> {
        // As the standard asks, an empty variable is none.
        let var = |name: &str| env(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let own = |name: &str| {
            var(&format!("OTEL_EXPORTER_OTLP_METRICS_{name}"))
                .or_else(|| var(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let is_disabled = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint = match var("OTEL_METRICS_EXPORTER").as_deref() {
            _ if is_disabled => None,
            None => own("ENDPOINT"),
            Some("none") => None,
            Some("otlp") => Some(own("ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned())),
            Some(other) => {
                return Err(format!("OTEL_METRICS_EXPORTER: `{other}` is not there; there are: otlp, none"));
            }
        };
        let Some(endpoint) = endpoint else { return Ok(None) };
        if let Some(other) = own("PROTOCOL").filter(|protocol| protocol != "grpc") {
            return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL: `{other}` is not there; there is: grpc"));
        }
        let millis = |name: &str, value: Option<String>, or: Duration| match value {
            None => Ok(or),
            Some(text) => match text.parse().ok().filter(|ms| *ms > 0) {
                Some(ms) => Ok(Duration::from_millis(ms)),
                None => Err(format!("{name}: must be milliseconds, not `{text}`")),
            },
        };
        let interval = "OTEL_METRIC_EXPORT_INTERVAL";
        let mut resource = pairs(&var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let named = resource.iter().any(|(key, _)| key == "service.name");
        if let Some(name) = var("OTEL_SERVICE_NAME").or_else(|| (!named).then(|| SERVICE.to_owned())) {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        }
        let headers = pairs(&own("HEADERS").unwrap_or_default());
        let header = |(key, value): (String, String)| Some((key.parse().ok()?, value.parse().ok()?));
        // Not repeated: it may be a key.
        let headers = headers.into_iter().map(header).collect::<Option<_>>();
        Ok(Some(Self {
            endpoint,
            every: millis(interval, var(interval), INTERVAL)?,
            within: millis("OTEL_EXPORTER_OTLP_TIMEOUT", own("TIMEOUT"), TIMEOUT)?,
            headers: headers.ok_or("OTEL_EXPORTER_OTLP_HEADERS: must be key=value, separated by commas")?,
            resource,
        }))
    }
}

/// `key=value,key=value`, as the standard has lists.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// Exports a node's metrics until it is closed.
pub(in crate::node) struct Push {
    metrics: Arc<Metrics>,
    client: MetricsServiceClient<Channel>,
    settings: Settings,
    resource: Vec<KeyValue>,
}

impl Push {
    /// An exporter. It connects when there is something to send. It must be made inside a tokio runtime.
    ///
    /// # Errors
    /// The endpoint is none.
    pub(in crate::node) fn new(
        settings: Settings,
        metrics: Arc<Metrics>,
        node: &str,
    ) -> Result<Self, String> {
        let wrong = |why: tonic::transport::Error| {
            format!("{} is no endpoint of an OTLP collector: {why}", settings.endpoint)
        };
        let mut endpoint = Endpoint::from_shared(settings.endpoint.clone()).map_err(wrong)?;
        if settings.endpoint.starts_with("https:") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots()).map_err(wrong)?;
        }
        let client = MetricsServiceClient::new(endpoint.connect_timeout(settings.within).connect_lazy());
        let own = [("service.instance.id", node), ("service.version", metrics.of.version)];
        let said = settings.resource.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let resource = said.chain(own).map(|(key, value)| attribute(key, value)).collect();
        tracing::info!(endpoint = settings.endpoint, every = ?settings.every, "metrics are exported");
        Ok(Self { metrics, client, settings, resource })
    }

    /// Exports every so often until `ended`, and once more then.
    pub(in crate::node) async fn run(mut self, ended: CancellationToken) {
        let mut ticks = interval(self.settings.every);
        // A collector that is slow misses turns; they do not pile up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        let mut failing = false;
        while ended.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(sent) = ended.clone().run_until_cancelled(self.export()).await else { break };
            match (sent, std::mem::replace(&mut failing, false)) {
                (Err(error), was) => {
                    failing = true;
                    if !was {
                        tracing::warn!(%error, "metrics cannot be exported; the next are tried");
                    }
                }
                (Ok(()), true) => tracing::info!("metrics are exported again"),
                (Ok(()), false) => {}
            }
        }
        // What has not left by then is lost.
        let _ = timeout(LAST, self.export()).await;
    }

    async fn export(&mut self) -> Result<(), String> {
        let page: Page = self.metrics.page().await;
        let now = self.metrics.of.clock.now();
        let nanos = |micros: i64| u64::try_from(micros).unwrap_or_default() * 1_000;
        let since = nanos((self.metrics.started * 1e6) as i64);
        let span = Span { since, now: nanos(now.micros()) };
        let message = otlp::request(&page, &self.resource, self.metrics.of.version, span);
        let mut request = tonic::Request::new(message);
        for (key, value) in &self.settings.headers {
            request.metadata_mut().insert(key.clone(), value.clone());
        }
        match timeout(self.settings.within, self.client.export(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
            Err(_) => Err(format!("no answer in {:?}", self.settings.within)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&'static str, &'static str)]) -> Result<Option<Settings>, String> {
        let vars = vars.to_vec();
        let find =
            move |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&(Arc::new(find) as Env))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");

    #[test]
    fn nothing_is_exported_unless_somebody_says_where_to() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "none")]), Ok(None));
        assert_eq!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        let settings = read(&[ENDPOINT]).unwrap().unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.every), ("http://c:4317", INTERVAL));
        assert_eq!(settings.resource, [("service.name".into(), "callboard".into())]);
        let own = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4317")]);
        assert_eq!(own.unwrap().unwrap().endpoint, "http://m:4317");
        let named = read(&[("OTEL_METRICS_EXPORTER", "otlp")]).unwrap().unwrap();
        assert_eq!(named.endpoint, DEFAULT_ENDPOINT);
    }

    #[test]
    fn what_is_set_is_taken_and_what_cannot_be_is_named() {
        let settings = read(&[
            ENDPOINT,
            ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer x=y, tenant=z"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment=test"),
            ("OTEL_SERVICE_NAME", "mine"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.every, Duration::from_millis(500));
        let headers: Vec<_> =
            settings.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("authorization", "Bearer x=y"), ("tenant", "z")]);
        let expected = [("deployment".into(), "test".into()), ("service.name".into(), "mine".into())];
        assert_eq!(settings.resource, expected);
        let wrong = |name, value| read(&[ENDPOINT, (name, value)]).unwrap_err();
        assert!(wrong("OTEL_METRICS_EXPORTER", "prometheus").contains("otlp, none"));
        assert!(wrong("OTEL_METRIC_EXPORT_INTERVAL", "0").contains("OTEL_METRIC_EXPORT_INTERVAL"));
        assert!(wrong("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").contains("grpc"));
        let secret = wrong("OTEL_EXPORTER_OTLP_HEADERS", "a=sk-1\u{7f}");
        assert!(!secret.contains("sk-1"), "{secret}");
    }
}
