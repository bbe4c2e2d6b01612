# What CI runs, and its parts.
ci:
    .ci/run

test:
    cargo test --workspace --all-features

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo run -q -p xtask -- tidy

demo:
    cargo run --release --bin sss -- demo

bench:
    cargo run --release -p sss-bench -- compare
