//! The property is told and checked in `streamgauge::fuzzing::attempts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::attempts(data));
