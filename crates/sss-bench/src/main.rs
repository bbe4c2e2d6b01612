//! `sss-bench`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sss_bench::run(&sss_bench::PROGRAM)
}
