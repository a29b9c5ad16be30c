//! `streamgauge::fuzzing::forwarded` documents and checks the property.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::forwarded(data));
