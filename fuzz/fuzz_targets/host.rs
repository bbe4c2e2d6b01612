#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sss_fuzz::host::host(data));
