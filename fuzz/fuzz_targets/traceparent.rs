//! The property is told and checked in `streamgauge::fuzzing::traceparent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgauge::fuzzing::traceparent(data));
