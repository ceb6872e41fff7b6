//! The ProviderBroker actor: the only place that knows provider keys.
