//! The addresses of a client, and which of them is in use.

use crate::error::{Error, Origin};
use crate::options::{DEFAULT_PORT, Options};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// How often a node is asked for a sign of life, and how long it may take. After both it is left for the next: a little
/// before a cluster finds a node silent, so that what then runs again is not behind what the client held back.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_WITHIN: Duration = Duration::from_secs(2);

/// One address.
struct Route {
    text: String,
    endpoint: Endpoint,
    // Made at the first call, since making one needs a runtime.
    channel: OnceLock<Channel>,
}

/// All addresses of a client.
pub(crate) struct Routes {
    routes: Vec<Route>,
    current: AtomicUsize,
}

/// The route that one attempt takes.
pub(crate) struct Taken {
    index: usize,
    pub(crate) channel: Channel,
}

impl Routes {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let routes =
            options.addresses.iter().map(|text| route(text, options)).collect::<Result<Vec<_>, _>>()?;
        if routes.is_empty() {
            return Err(invalid("no address given"));
        }
        Ok(Self { routes, current: AtomicUsize::new(0) })
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// The addresses, as they were given.
    pub(crate) fn text(&self) -> String {
        self.routes.iter().map(|r| r.text.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The address in use.
    pub(crate) fn current(&self) -> &str {
        self.routes.get(self.index()).map_or("", |r| &r.text)
    }

    pub(crate) fn take(&self) -> Result<Taken, Error> {
        let index = self.index();
        let route = self.routes.get(index).ok_or_else(|| invalid("no address given"))?;
        let channel = route.channel.get_or_init(|| route.endpoint.connect_lazy()).clone();
        Ok(Taken { index, channel })
    }

    /// Moves on from a route that failed, unless another call has done so already.
    pub(crate) fn leave(&self, taken: &Taken) {
        let next = (taken.index + 1) % self.routes.len();
        let moved = self.current.compare_exchange(taken.index, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && next != taken.index {
            tracing::debug!(to = self.current(), "moved to the next address");
        }
    }

    fn index(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, "INVALID_ADDRESS", message, Origin::Local)
}

fn route(text: &str, options: &Options) -> Result<Route, Error> {
    let wrong =
        || invalid(format!("`{text}` is no address: expected host:port, such as 127.0.0.1:{DEFAULT_PORT}"));
    let trimmed = text.trim().trim_end_matches('/');
    if trimmed.starts_with("https://") {
        return Err(invalid(format!("`{text}`: TLS is not supported yet, use http://")));
    }
    let authority = trimmed.strip_prefix("http://").unwrap_or(trimmed);
    if authority.is_empty() || authority.contains('/') || authority.contains("://") {
        return Err(wrong());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        // An IPv6 address in brackets holds colons of its own.
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let uri =
        if has_port { format!("http://{authority}") } else { format!("http://{authority}:{DEFAULT_PORT}") };
    let endpoint = Endpoint::from_shared(uri)
        .map_err(|_| wrong())?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        // So that a node that stands still, or whose host is gone, is left for another, on a stream that waits for
        // events too.
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .keep_alive_while_idle(true);
    if endpoint.uri().host().is_none_or(str::is_empty) || endpoint.uri().port_u16().is_none() {
        return Err(wrong());
    }
    Ok(Route { text: text.trim().to_owned(), endpoint, channel: OnceLock::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Result<String, Error> {
        route(text, &Options::default()).map(|r| r.endpoint.uri().to_string())
    }

    #[test]
    fn addresses_are_taken_with_and_without_scheme_and_port() {
        for (text, expected) in [
            ("127.0.0.1:7070", "http://127.0.0.1:7070/"),
            (" localhost:1234 ", "http://localhost:1234/"),
            ("http://node-a:9/", "http://node-a:9/"),
            ("node-a", "http://node-a:7070/"),
            ("[::1]:7070", "http://[::1]:7070/"),
            ("[::1]", "http://[::1]:7070/"),
        ] {
            assert_eq!(uri(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "https://x:1", "ftp://x:1", "a b:7070", "x:99999", "http://x:1/path"] {
            let error = uri(text).unwrap_err();
            assert_eq!((error.code, error.origin), (Code::InvalidArgument, Origin::Local), "{text}");
        }
    }

    #[test]
    fn only_the_first_to_fail_moves_the_client_on() {
        let options =
            Options { addresses: vec!["a:1".into(), "b:1".into(), "c:1".into()], ..Options::default() };
        let routes = Routes::new(&options).unwrap();
        let taken = |index| Taken { index, channel: Endpoint::from_static("http://a:1").connect_lazy() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let _entered = runtime.enter();
        routes.leave(&taken(0));
        routes.leave(&taken(0));
        assert_eq!(routes.current(), "b:1");
        routes.leave(&taken(1));
        routes.leave(&taken(2));
        assert_eq!(routes.current(), "a:1");
    }
}
