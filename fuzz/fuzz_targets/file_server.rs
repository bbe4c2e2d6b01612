#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sss_fuzz::server::file_server(data));
