//! The property is told and checked in `streamgauge::fuzzing::verdict`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::verdict(data));
