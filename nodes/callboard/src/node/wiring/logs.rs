//! Where the lines of a node's log go beside standard error, by OpenTelemetry's own variables.
//!
//! Off unless somebody asks for it: `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`, or `OTEL_LOGS_EXPORTER=otlp`. The endpoint for
//! everything is not enough, since many a collector of traces takes no logs. The SDK reads what else there is: headers,
//! time limits, the queue's bounds, attributes of the resource.

use super::VERSION;
use crate::log::{self, Log};
use callboard_backends::logs::otlp::{Options, Otlp};
use callboard_provider_broker::Env;
use std::sync::Arc;

/// Where a collector is if only the exporter is named.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";
/// What a node is called if nobody calls it anything else.
const SERVICE: &str = "callboard";

/// Sends lines to where the environment says, if it does.
///
/// # Errors
/// A variable says what cannot be done.
pub(super) fn open(env: &Env, log: &Log, node: &str) -> Result<(), String> {
    let Some(Settings { endpoint, service }) = Settings::read(&**env)? else { return Ok(()) };
    // Where several nodes are in one process, its log is nobody's.
    if !log.is_own() {
        return Ok(());
    }
    let options = Options { endpoint, service, instance: node.to_owned(), version: VERSION };
    let otlp = Otlp::new(&options, Arc::new(log::current)).map_err(|error| error.to_string())?;
    log.export(otlp);
    tracing::info!(endpoint = options.endpoint, "lines of the log are exported");
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Settings {
    endpoint: String,
    service: String,
}

impl Settings {
    fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // As the standard asks, an empty variable is none.
        let var =
            |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let own = var("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT");
        let is_disabled = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint = match var("OTEL_LOGS_EXPORTER").as_deref() {
            _ if is_disabled => None,
            None => own,
            Some("none") => None,
            Some("otlp") => {
                let any = own.or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT"));
                Some(any.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()))
            }
            Some(other) => {
                return Err(format!("OTEL_LOGS_EXPORTER: `{other}` is not there; there are: otlp, none"));
            }
        };
        let Some(endpoint) = endpoint else { return Ok(None) };
        for name in ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            match var(name).as_deref() {
                None => {}
                // The one for logs is before the one for everything.
                Some("grpc") => break,
                Some(other) => return Err(format!("{name}: `{other}` is not there; there is: grpc")),
            }
        }
        let service = var("OTEL_SERVICE_NAME").unwrap_or_else(|| SERVICE.to_owned());
        Ok(Some(Self { endpoint, service }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        Settings::read(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn lines_are_sent_only_where_somebody_asks_for_it() {
        let any = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l:4317");
        let otlp = ("OTEL_LOGS_EXPORTER", "otlp");
        let endpoint = |vars: &[(&str, &str)]| read(vars).unwrap().map(|settings| settings.endpoint);
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&[any]), None, "many a collector of traces takes no logs");
        assert_eq!(endpoint(&[any, own]).as_deref(), Some("http://l:4317"));
        assert_eq!(endpoint(&[any, otlp]).as_deref(), Some("http://c:4317"));
        assert_eq!(endpoint(&[own, otlp]).as_deref(), Some("http://l:4317"));
        assert_eq!(endpoint(&[otlp]).as_deref(), Some(DEFAULT_ENDPOINT));
        assert_eq!(endpoint(&[own, ("OTEL_LOGS_EXPORTER", "none")]), None);
        assert_eq!(endpoint(&[own, ("OTEL_SDK_DISABLED", "true")]), None);
        let named = read(&[own, ("OTEL_SERVICE_NAME", "mine")]).unwrap().unwrap();
        assert_eq!(named.service, "mine");
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l:4317");
        let any = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        assert!(read(&[own, ("OTEL_LOGS_EXPORTER", "console")]).unwrap_err().contains("otlp, none"));
        assert!(read(&[own, any]).unwrap_err().starts_with("OTEL_EXPORTER_OTLP_PROTOCOL: `http/protobuf`"));
        assert!(read(&[own, any, ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")]).unwrap().is_some());
    }
}
