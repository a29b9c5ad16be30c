//! The property is told and checked in `streamgauge::fuzzing::coding`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::coding(data));
