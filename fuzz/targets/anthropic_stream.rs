//! What Anthropic streams.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    callboard_provider_broker::fuzz::run("anthropic_stream", bytes);
});
