#![no_main]

use sss_fuzz::pairs;

libfuzzer_sys::fuzz_target!(init: pairs::prepare(), |data: &[u8]| pairs::host(data));
