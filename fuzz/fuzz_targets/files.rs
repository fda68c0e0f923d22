#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jay_engine::fuzzing::files(data));
