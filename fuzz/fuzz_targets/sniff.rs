//! The property is told and checked in `streamgauge::fuzzing::sniff`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::sniff(data));
