//! The property is told and checked in `streamgauge::fuzzing::h1_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::h1_server(data));
