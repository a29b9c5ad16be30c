//! `streamgauge::fuzzing::proxy_header` documents and checks the property.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::proxy_header(data));
