//! What Ollama answers in one piece.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    callboard_provider_broker::fuzz::run("ollama_response", bytes);
});
