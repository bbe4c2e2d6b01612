//! The transports, one file each, and the table of them.

mod quinn;
mod raw;
mod shards;
mod sss;
mod tcp;
mod yamux;

use self::quinn::{AwsLc, Quinn, Ring};
use self::raw::Raw;
use self::shards::Sharded;
use self::sss::{Dedicated, Deep, Shared, Sss};
use self::tcp::{Plain, Tcp, Tls};
use self::yamux::Yamux;
use crate::backend::Backend;
use crate::setup::Settings::{Default, Tuned};

/// The backends of this crate, in the order of reports.
pub const BACKENDS: &[Backend] = &[
    Backend::of::<Sss<Shared>>(
        "sss",
        Default,
        "libsss as a builder without settings makes it, on the multi-thread runtime",
    ),
    Backend::of::<Sss<Shared>>("sss-tuned", Tuned, "libsss on the current_thread runtime"),
    Backend::of::<Sss<Dedicated>>(
        "sss-dedicated",
        Default,
        "libsss with its driver on a thread of its own, on the multi-thread runtime",
    )
    .of_choice(),
    Backend::of::<Sharded>(
        "sss-shards",
        Tuned,
        "libsss with a server of two shards, each with its tasks on a thread of its own",
    )
    .of_choice(),
    Backend::of::<Sss<Deep>>(
        "sss-deep",
        Tuned,
        "libsss on the current_thread runtime, requests 16 levels below the stream of the connection",
    )
    .of_choice(),
    Backend::of::<Quinn<Ring>>("quinn-ring", Default, "quinn with ring, default settings"),
    Backend::of::<Quinn<Ring>>(
        "quinn-ring-tuned",
        Tuned,
        "quinn with ring, tuned: current_thread, large socket buffers and windows, MTU 1452 from the start",
    )
    .of_choice(),
    Backend::of::<Quinn<AwsLc>>("quinn-aws", Default, "quinn with aws-lc-rs, default settings"),
    Backend::of::<Quinn<AwsLc>>("quinn-aws-tuned", Tuned, "quinn with aws-lc-rs, tuned in the same way"),
    Backend::of::<Yamux>(
        "yamux",
        Default,
        "tokio TCP + TLS 1.3 (aws-lc-rs) + yamux, default settings",
    ),
    Backend::of::<Yamux>(
        "yamux-tuned",
        Tuned,
        "tokio TCP + TLS 1.3 (aws-lc-rs) + yamux, tuned: current_thread, larger frames, raised stream limit",
    ),
    Backend::of::<Tcp<Tls>>(
        "tls",
        Default,
        "tokio TCP + TLS 1.3 (aws-lc-rs), a connection for each stream",
    )
    .of_choice(),
    Backend::of::<Tcp<Tls>>("tls-tuned", Tuned, "the same on the current_thread runtime"),
    Backend::of::<Tcp<Plain>>(
        "tcp",
        Default,
        "tokio TCP, a connection for each stream; protects nothing",
    )
    .as_yardstick()
    .of_choice(),
    Backend::of::<Tcp<Plain>>("tcp-tuned", Tuned, "the same on the current_thread runtime")
        .as_yardstick()
        .of_choice(),
    Backend::of::<Raw>(
        "raw-tuned",
        Tuned,
        "the limit: datagrams sealed with AES-256-GCM, sent and received in batches, and nothing else",
    )
    .as_yardstick(),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum as _;

    use super::*;
    use crate::setup::Workload;

    #[test]
    fn every_name_is_distinct() {
        let names: BTreeSet<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
        assert_eq!(names.len(), BACKENDS.len());
    }

    #[test]
    fn libsss_runs_everything() {
        let own: Vec<_> = BACKENDS.iter().filter(|backend| backend.is_own()).collect();
        assert_eq!(own.len(), 5);
        for workload in Workload::value_variants() {
            for backend in &own {
                assert_eq!(backend.excludes(*workload), None);
            }
        }
    }
}
