# Two commands matter: `make demo` and `make test`. Each installs what is missing, then does its job.

# Debian keeps nft and ip where other users do not look; rustup installs beside, too.
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

CARGO ?= cargo
# The documentation is for readers of the code, so it may link to what is private.
RUSTDOC = -D warnings -A rustdoc::private_intra_doc_links
TARGET = $(or $(CARGO_TARGET_DIR),target)
# Seconds of load for `make soak`.
SOAK_SECONDS ?= 600

.PHONY: help demo test soak stress check bench need

help:
	@echo "make demo    a CA, services, sidecars and intruders on this machine; ARGS=--stay keeps them up"
	@echo "make test    every test; fails on a skipped one"
	@echo "make soak    $(SOAK_SECONDS) s of load at 500 requests/s with a new certificate every 2 s"
	@echo "make stress  a million requests, and 64 million permits, against the limits of pools; optimised, about half an hour"
	@echo "make check   formatting, lints and documentation, as CI checks them"
	@echo "make bench   micro-benches"
	@echo "make need    installs what the others need, or says what that is"

need:
	@scripts/need

demo:
	@scripts/need demo
	$(CARGO) build --locked --profile demo -p portcullis -p portcullis-ca -p portcullis-examples
	@$(TARGET)/demo/portcullis demo $(ARGS)

test: need
	scripts/test

soak: need
	PORTCULLIS_SOAK_SECONDS=$(SOAK_SECONDS) scripts/test soak

stress: need
	PORTCULLIS_STRESS_OPERATIONS=1000000 PORTCULLIS_LIMIT_REQUESTS=1000000 PORTCULLIS_LIMIT_HASTE=3 \
	$(CARGO) nextest run --locked --cargo-profile demo --workspace --no-capture -E 'test(/under_stress/) | test(/a_server_never_sees_a_connection_too_many/)'

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="$(RUSTDOC)" $(CARGO) doc --locked --workspace --no-deps --document-private-items

bench:
	$(CARGO) bench --locked -p portcullis-benches
