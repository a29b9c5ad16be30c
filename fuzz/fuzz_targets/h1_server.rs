//! `streamgauge::fuzzing::h1_server` documents and checks the property.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::h1_server(data));
