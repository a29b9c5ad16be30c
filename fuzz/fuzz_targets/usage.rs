//! The property is told and checked in `streamgauge::fuzzing::usage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::usage(data));
