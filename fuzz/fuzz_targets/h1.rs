//! The property is told and checked in `streamgauge::fuzzing::h1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::h1(data));
