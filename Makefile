# The two commands to know: `make demo` shows it, `make test` proves it. The rest is for who works on it.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# Sampling a whole host needs rights; building does not.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
# Seconds that `make fuzz` gives each target.
SECONDS ?= 30
# Measurements that `make accept` and `make bench` take; empty: all.
ONLY ?=

.PHONY: demo test check accept bench fuzz

demo: ## run an example function in a container and show where its time went
	cargo build --release --locked
	$(SUDO) $(TARGET_DIR)/release/fnscope demo

test: ## every test, with Docker started and stopped if none answers
	tests/services run tests/run

check: ## the fast loop: format, lints, unit tests
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --quiet --lib

accept: ## the long measurements against their bars (root)
	cargo build --release --locked --bin fnscope --example accept
	$(SUDO) tests/services run $(TARGET_DIR)/release/examples/accept $(or $(ONLY),accept)

bench: ## what it costs (root, a quiet machine)
	cargo build --release --locked --bin fnscope --example accept
	$(SUDO) tests/services run $(TARGET_DIR)/release/examples/accept $(or $(ONLY),bench)

fuzz: ## every fuzz target for SECONDS seconds (nightly toolchain, cargo-fuzz)
	tests/fuzz/run $(SECONDS)
