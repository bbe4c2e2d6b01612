//! `sss-bench` with further peers behind its own: noq, iroh, s2n-quic and, if its tools are here, quiche.

mod iroh;
mod noq;
#[cfg(feature = "quiche")]
mod quiche;
mod s2n;

use std::process::ExitCode;

use sss_bench::Settings::{Default, Tuned};
use sss_bench::{BACKENDS, Backend, Program};

const PEERS: &[Backend] = &[
    Backend::of::<noq::Noq>("noq", Default, "noq with aws-lc-rs, default settings"),
    Backend::of::<noq::Noq>("noq-tuned", Tuned, "noq with aws-lc-rs, tuned as quinn is"),
    Backend::of::<iroh::Iroh>("iroh", Default, "iroh with aws-lc-rs, default settings, no relay"),
    Backend::of::<iroh::Iroh>(
        "iroh-tuned",
        Tuned,
        "iroh with aws-lc-rs, tuned as quinn is; the socket's buffers are its own",
    ),
    Backend::of::<s2n::S2n>(
        "s2n-quic",
        Default,
        "s2n-quic with rustls and aws-lc-rs, default settings",
    ),
    Backend::of::<s2n::S2n>(
        "s2n-quic-tuned",
        Tuned,
        "s2n-quic with rustls and aws-lc-rs, tuned as quinn is",
    ),
    #[cfg(feature = "quiche")]
    Backend::of::<quiche::Quiche>("quiche", Default, "tokio-quiche with BoringSSL, default settings"),
    #[cfg(feature = "quiche")]
    Backend::of::<quiche::Quiche>("quiche-tuned", Tuned, "tokio-quiche with BoringSSL, tuned as quinn is"),
];

fn main() -> ExitCode {
    let backends = Vec::leak([BACKENDS, PEERS].concat());
    sss_bench::run(&Program {
        name: "sss-bench-peers",
        backends,
        lock: include_str!("../Cargo.lock"),
    })
}
