#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jay_server::fuzzing::sigv4_query(data));
