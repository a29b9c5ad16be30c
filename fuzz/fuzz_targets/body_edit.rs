//! The property is told and checked in `streamgauge::fuzzing::body_edit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::body_edit(data));
