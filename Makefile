# ADU Export. `make test` proves it, `make demo` shows it; everything else is a part of these.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON := $(TARGET)/venv/bin/python3
SAY := @echo; echo "==>"

.PHONY: help
help: ## What there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: test
test: packages $(PYTHON) ## Everything that must hold: format, lints, docs, all tests on real services
	$(SAY) "format"
	cargo fmt --check
	echo "==> lints: all targets, warnings denied"
	cargo clippy --locked --all-targets -- -D warnings
	echo "==> documentation without warnings"
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	echo "==> tests, with a private PostgreSQL and RabbitMQ below $(TARGET)/tmp"
	cargo test --locked --all-targets
	echo "==> all of it holds"

.PHONY: demo
demo: packages $(PYTHON) ## TPC-H at scale 1 through two daemons, with live progress and a look at the result
	$(SAY) "building the release"
	cargo build --locked --release --bin adu-export --example load_tpch
	TARGET=$(TARGET) scripts/demo.sh

.PHONY: schemas
schemas: ## Write config/schemas/ again from the Rust types
	ADU_EXPORT_WRITE_SCHEMAS=1 cargo test --locked --lib message::schema

.PHONY: clean-services
clean-services: ## Stop what an interrupted test or demo left running
	for directory in $(TARGET)/tmp/services $(TARGET)/demo/services; do
		if [ -d "$$directory" ]; then scripts/services.sh stop "$$directory"; fi
	done

# Debian's PostgreSQL, RabbitMQ and Python are used as programs only, never as system services.
.PHONY: packages
packages:
	@scripts/packages.sh

$(PYTHON): tests/oracle/requirements.txt
	$(SAY) "Python with DuckDB, pyarrow, Polars and pika in $(TARGET)/venv"
	rm -rf $(TARGET)/venv
	python3 -m venv $(TARGET)/venv
	$(TARGET)/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@
