//! The property is told and checked in `streamgauge::fuzzing::whole`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::whole(data));
