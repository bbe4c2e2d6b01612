# All that CI runs.
ci:
    .ci/run

# The steps of CI, by their names.
format:
    .ci/run format

tidy:
    .ci/run tidy

lints:
    .ci/run lints

tests:
    .ci/run tests

rustcrypto:
    .ci/run rustcrypto

documentation:
    .ci/run documentation

dependencies:
    .ci/run dependencies

msrv:
    .ci/run msrv

systems:
    .ci/run systems

release:
    .ci/run release

examples:
    .ci/run examples

demo: release
    .ci/run demo

interoperability: release rustcrypto
    .ci/run interoperability

simulator: release
    .ci/run simulator

# What the core costs in instructions, compared with what was counted last.
instructions:
    .ci/run instructions

# Formal models, where their checker is installed.
models:
    .ci/run models

fuzz:
    .ci/run fuzz

# What is measured when it is asked for.

bench:
    cargo run --release -p sss-bench -- compare

# Beside noq, iroh, s2n-quic and quiche as well. BoringSSL (quiche) wants CMake, a C++ compiler and libclang.
bench-peers *arguments="compare":
    cargo run --release --manifest-path bench-peers/Cargo.toml --features quiche -- {{arguments}}

# Calls and moves behind NATs beside iroh, as root: so many runs of each.
bench-reach file="results.jsonl" runs="10":
    cargo run --release --manifest-path bench-peers/Cargo.toml --features lab --bin reach -- {{file}} {{runs}}

# CI does not compile the crate above.
check-peers:
    cargo fmt --manifest-path bench-peers/Cargo.toml --check
    cargo clippy --manifest-path bench-peers/Cargo.toml --all-targets --features quiche,lab -- -D warnings
    cargo test --release --manifest-path bench-peers/Cargo.toml --features quiche,lab

instructions *arguments:
    cargo run -p xtask -- instructions {{arguments}}

shape *arguments:
    cargo run -p xtask -- shape {{arguments}}

hashes seeds="3000":
    cargo run --release -p sss-sim -- run --seeds {{seeds}} --hash-datagrams

# Changes of the API since the last release. Nothing is released yet: there is no tag to compare with.
semver:
    git describe --tags --abbrev=0 || { echo "no release to compare with"; exit 1; }
    cargo semver-checks --baseline-rev "$(git describe --tags --abbrev=0)" -p libsss
