//! What Gemini answers in one piece.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    callboard_provider_broker::fuzz::run("gemini_response", bytes);
});
