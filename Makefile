# Thin verbs; what they do lives in cargo and in tests/run.
.DEFAULT_GOAL := help
.PHONY: help run test test-all conformance simulate fuzz fmt lint bench
SEEDS ?= 3000
MINUTES ?= 10

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: ## build the release binary and serve ./data on 127.0.0.1:9000
	cargo build --release -p jay-server
	JAY_LISTEN_ADDR=127.0.0.1:9000 JAY_ADMIN_ADDR=127.0.0.1:9001 JAY_NATIVE_ADDR=127.0.0.1:4444 JAY_RATE_LIMIT=0 exec ./target/release/jay

test: ## install what the tests need and run every test
	tests/run

test-all: ## the same and the long ones: a big tree, 50 rounds of kill -9, more simulator seeds
	tests/run --all

conformance: ## play every scenario on every driver; DRIVER=engine SCENARIO=multipart for some
	tests/run --only build --only conformance $(if $(DRIVER),--driver $(DRIVER)) $(if $(SCENARIO),--scenario $(SCENARIO))

simulate: ## crash the store in SEEDS=n lives and compare with a model
	cargo run --profile ci -p jay-engine --features simulation --example simulate -- --seeds $(SEEDS)

fuzz: ## feed every decoder hostile bytes for MINUTES=10 each, on nightly; TARGET="xml config" for some
	MINUTES=$(MINUTES) fuzz/run $(TARGET)

fmt: ## format the code
	cargo fmt --all

lint: ## what must be quiet: rustfmt, clippy, and cargo-deny where it is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --profile ci -- -D warnings
	if cargo deny --version >/dev/null 2>&1; then cargo deny check; fi

bench: ## what this machine can do, then Jay in proportion to it (see bench/README.md)
	cargo build --release -p jay-server -p jay-limits
	./target/release/jay-limits
	./target/release/jay-limits compare --jay ./target/release/jay
