# The two commands to know: `make demo` shows it, `make test` proves it. The rest is for who works on it.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# Sampling a whole host needs rights; building does not.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo "--config 'target.\"cfg(unix)\".runner=\"sudo\"'")
# Seconds that `make fuzz` gives each target.
SECONDS ?= 30
# Measurements that `make accept` and `make bench` take; empty: all of the first, the quick ones of the second.
ONLY ?=
QUICK := bench-host bench-cost bench-slowdown bench-scale bench-store
# How long `make soak` takes in all, and what else it is told (`--seed N`, `--without FAULT`; it steps the clock
# of this machine unless that is `--without clock-step`).
MINUTES ?= 30
SOAK ?=

.PHONY: demo picture test check accept bench soak fuzz image dist

demo: ## run example functions and show where their time went
	cargo run --release --locked $(AS_ROOT) -- demo

picture: ## draw the README's flame graph anew
	cargo run --release --locked $(AS_ROOT) -- demo --dir $(TARGET_DIR)/picture
	mkdir -p docs && cp $(TARGET_DIR)/picture/pi.svg docs/flame.svg

test: ## every test, with Docker started and stopped if none answers
	tests/services run tests/run

check: ## the fast loop: format, lints, unit tests
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --quiet --lib -- --skip ::real:: --skip ::disk::

accept: ## the long measurements against their bars (root, a quiet machine, some 75 minutes)
	tests/grpc/make --check
	cargo build --release --locked --bin fnscope --example accept
	$(SUDO) tests/services run $(TARGET_DIR)/release/examples/accept $(or $(ONLY),accept)

bench: ## what it costs, in three minutes (root, a quiet machine)
	cargo build --release --locked --bin fnscope --example accept
	$(SUDO) tests/services run $(TARGET_DIR)/release/examples/accept $(or $(ONLY),$(QUICK))

soak: ## the agent while its host goes wrong; run again, it goes on (root, Docker)
	cargo build --release --locked --bin fnscope --example soak
	$(SUDO) $(TARGET_DIR)/release/examples/soak --minutes $(MINUTES) --folder $(TARGET_DIR)/soak $(SOAK)

fuzz: ## every fuzz target for SECONDS seconds (nightly toolchain, cargo-fuzz)
	tests/fuzz/run $(SECONDS)

image: ## the container image fnscope:VERSION around one static program (Docker)
	deploy/pack image

dist: ## what is given away, in target/dist: .deb, tarball, bill of materials, checksums
	deploy/pack dist
