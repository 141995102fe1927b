# ADU Export. `make test` proves it, `make quick` is for the daily loop, `make demo` shows it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON := $(TARGET)/venv/bin/python3
ASYNCAPI_PARSER := 3.6.6
BENCH_PYTHON := $(TARGET)/bench-venv/bin/python3
PAGE_PYTHON := $(TARGET)/page-venv/bin/python3
AXE_CORE := 4.14.1
AXE := $(TARGET)/axe-$(AXE_CORE)/node_modules/axe-core/axe.min.js
CARGO_DEB := $(TARGET)/tools/bin/cargo-deb
SAY := @echo; echo "==>"
# One set of features for all tests, so that one build serves them all.
FEATURES := --features failpoints,otel
# All eight tables of TPC-H, compared with the server.
PIPELINE := pipeline::two_daemons_export_all_tables_equal_to_the_source
LINTS := cargo clippy --locked --all-targets $(FEATURES) -- -D warnings

.PHONY: help
help: ## What there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: quick
quick: packages $(PYTHON) ## For the daily loop: format, lints, unit tests, one export by two daemons (minutes on a warm tree)
	$(SAY) "format"
	cargo fmt --check
	echo "==> lints: all targets, warnings denied"
	$(LINTS)
	echo "==> unit tests"
	cargo test --locked $(FEATURES) --lib
	echo "==> one export by two daemons, with a private PostgreSQL and RabbitMQ below $(TARGET)/tmp"
	cargo test --locked $(FEATURES) --test main -- --exact $(PIPELINE)
	echo "==> quick, but not all: make test"

.PHONY: test
test: packages $(PYTHON) ## Everything that must hold: format, lints, docs, all tests on real services
	$(SAY) "format"
	cargo fmt --check
	echo "==> lints: all targets, warnings denied"
	$(LINTS)
	echo "==> the program without traces and failpoints"
	cargo clippy --locked --lib --bins -- -D warnings
	echo "==> documentation without warnings"
	RUSTDOCFLAGS="-D warnings" cargo doc --locked $(FEATURES) --no-deps --document-private-items
	echo "==> tests, with a private PostgreSQL and RabbitMQ below $(TARGET)/tmp"
	# Most tests wait for heartbeats and timeouts: more at once than there are cores.
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --locked --all-targets $(FEATURES)
	echo "==> instructions, counted"
	cargo build --locked $(FEATURES) --example instructions
	scripts/instructions.py $(TARGET)/debug/examples/instructions
	echo "==> all of it holds"

.PHONY: chaos
chaos: packages $(PYTHON) ## Random deaths of daemons and servers: make chaos SEED=… ROUNDS=…
	ADU_CHAOS_SEED=$(SEED) ADU_CHAOS_ROUNDS=$(ROUNDS) cargo test --locked $(FEATURES) --test chaos -- --nocapture

.PHONY: simulate
simulate: ## New schedules of the simulation: make simulate SCHEDULES=… BASE=… (first seed; default: now)
	base=$(or $(BASE),$$(date +%s)000000)
	ADU_SIMULATION_BASE=$$base ADU_SIMULATION_SCHEDULES=$(or $(SCHEDULES),100000) \
		cargo test --locked $(FEATURES) --test simulation -- --nocapture

.PHONY: demo
demo: packages $(PYTHON) ## TPC-H at scale 1 through two daemons, with live progress and a look at the result
	$(SAY) "building the program"
	cargo build --locked --profile quick-release --bin adu-export --example load_tpch
	TARGET=$(TARGET) scripts/demo.sh

# The last commit that wrote control files of version 1, from the project's own history.
OLDER := 2247d2c

.PHONY: upgrade-check
upgrade-check: packages $(PYTHON) ## Daemons of an older release beside new ones, with real services: make upgrade-check OLDER=commit
	$(SAY) "building $(OLDER) in $(TARGET)/older"
	git cat-file -e $(OLDER)^{commit} || { echo "$(OLDER) is not in this clone: git fetch --unshallow" >&2; exit 1; }
	git worktree prune
	[ -e $(TARGET)/older/.git ] || git worktree add --detach $(TARGET)/older $(OLDER)
	git -C $(TARGET)/older checkout --quiet --detach $(OLDER)
	cargo build --locked --bin adu-export --manifest-path $(TARGET)/older/Cargo.toml --target-dir $(TARGET)/older/target
	ADU_OLDER=$$(realpath $(TARGET)/older/target/debug/adu-export) \
		cargo test --locked $(FEATURES) --test faults upgrade:: -- --ignored

.PHONY: greenplum-dsn
greenplum-dsn:
	@[ -n "$${ADU_TEST_GREENPLUM_DSN:-}" ] || { echo "set ADU_TEST_GREENPLUM_DSN to the DSN of a superuser of a Greenplum cluster" >&2; exit 1; }

.PHONY: greenplum-check
greenplum-check: greenplum-dsn packages $(PYTHON) ## Against a real Greenplum cluster: make greenplum-check ADU_TEST_GREENPLUM_DSN=postgres://superuser@host:port/database
	cargo test --locked $(FEATURES) --test greenplum -- --ignored --test-threads=1

.PHONY: greenplum-bench
greenplum-bench: greenplum-dsn packages $(BENCH_PYTHON) ## Beside psql and PostgreSQL, on a cluster on this machine: make greenplum-bench RUNS=5 ADU_TEST_GREENPLUM_DSN=…
	cargo build --locked --release --bin adu-export --example load_tpch
	$(BENCH_PYTHON) bench/greenplum.py --runs $(or $(RUNS),5)

.PHONY: stand-in-check
stand-in-check: packages $(PYTHON) ## The tests' stand-in for Vertica, checked by the vendor's published clients (3 minutes; npm)
	tests/support/vertica/check.sh $(PYTHON)

.PHONY: soak
soak: packages $(PYTHON) ## Two daemons under load for MINUTES (20): memory, descriptors, threads, queues must stay flat
	cargo build --locked --release --bin adu-export --example load_tpch
	$(PYTHON) scripts/soak.py $(or $(MINUTES),20)

.PHONY: fidelity
fidelity: packages $(PYTHON) ## PostgreSQL's regression suite, exported in one job and compared by the server: all of it exact (READ=pages: by pages)
	cargo build --locked --release --bin adu-export $(if $(READ),--features failpoints)
	READ=$(READ) scripts/fidelity.sh

.PHONY: readers
readers: packages ## What nine engines read of each type, in exact and portable files, and four of partitions; writes README's table (PyPI, npm, a JRE; 10 minutes)
	@scripts/packages.sh java:default-jre-headless npm
	cargo build --locked --release --bin adu-export
	CARGO_TARGET_DIR=$(TARGET) scripts/readers.sh

.PHONY: matrix
matrix: packages $(PYTHON) ## Types, pipeline and planner on PostgreSQL 12 to 18, pipeline and users on RabbitMQ 4: make matrix VERSIONS="12 rabbitmq"
	VERSIONS="$(VERSIONS)" scripts/matrix.sh

.PHONY: fuzz
fuzz: ## MINUTES (5) of random splits and garbage for tap and decoders: no panic, no value changed, memory bounded
	cargo test --locked $(FEATURES) --lib --no-run
	# A length that is believed before its bytes are there would reserve gigabytes: it ends the test here.
	ulimit -v 1500000
	end=$$((SECONDS + 60 * $(or $(MINUTES),5)))
	while [ $$SECONDS -lt $$end ]; do
		PROPTEST_CASES=1000 cargo test --locked $(FEATURES) --lib -- \
			decode::decoder::tests::pieces_do_not_matter decode::decoder::tests::garbage_is_never_a_panic \
			source::postgres::tap::tests::rows_and_messages_are_told_apart \
			source::postgres::pages::tests::garbage_is_never_a_panic_and_its_growth_is_bounded \
			source::postgres::pages::tests::random_pages_and_layouts_are_never_a_panic \
			source::postgres::pages::sheets::tests::garbage_is_no_panic \
			source::postgres::pages::expand::tests::garbage_grows_no_further_than_it_can
	done

.PHONY: bench
bench: packages $(BENCH_PYTHON) ## Beside the floor and its peers: make bench ONLY="lineitem pages shapes small growth core status" RUNS=5 (40 minutes)
	cargo build --locked --release --bin adu-export $(addprefix --example ,load_tpch decode_speed chunk_speed decide_speed)
	$(if $(ONLY),$(if $(filter status,$(ONLY)),$(BENCH_PYTHON) bench/status_page.py $(TARGET)/release/adu-export))
	$(if $(ONLY),$(if $(filter-out status,$(ONLY)),$(BENCH_PYTHON) bench/bench.py --runs $(or $(RUNS),5) --only $(filter-out status,$(ONLY))))
	$(if $(ONLY),,$(BENCH_PYTHON) bench/bench.py --runs $(or $(RUNS),5) --write && $(BENCH_PYTHON) bench/status_page.py $(TARGET)/release/adu-export)
	$(if $(ONLY),,$(BENCH_PYTHON) bench/plots.py && scripts/plan-scale.sh)

.PHONY: bench-odbc2parquet
bench-odbc2parquet: ## One more peer for the benches; wants Debian's unixodbc-dev and odbc-postgresql
	cargo install --locked --root $(TARGET)/bench-tools odbc2parquet

.PHONY: instructions
instructions: packages ## Instructions of decoding and encoding against those recorded: make instructions RECORD=1 records them
	cargo build --locked $(FEATURES) --example instructions
	scripts/instructions.py $(TARGET)/debug/examples/instructions $(if $(RECORD),--record)

# ADU_BINARY packages a binary that exists; else the release is built.
.PHONY: deb
deb: $(CARGO_DEB) ## The Debian package, below target/debian: make deb ADU_BINARY=…
	if [ -n "$(ADU_BINARY)" ]; then
		mkdir -p $(TARGET)/release
		cp $(ADU_BINARY) $(TARGET)/release/adu-export
	else
		cargo build --locked --release --features otel --bin adu-export
	fi
	scripts/describe.sh $(TARGET)/release/adu-export $(TARGET)/release/package
	$(CARGO_DEB) --no-build

.PHONY: service-check
service-check: deb ## The package on a booted Debian: start, reload, deaths, hangs, upgrade, removal (root, 5 minutes)
	scripts/service-check.sh

.PHONY: monitoring-check
monitoring-check: packages $(PYTHON) ## Rules and dashboard: promtool, and a real Prometheus on two daemons; alerts fire (5 minutes)
	@scripts/packages.sh prometheus
	cargo build --locked --release --bin adu-export --example load_tpch
	scripts/monitoring-check.sh

.PHONY: docker-check
docker-check: packages $(PYTHON) ## The image built without a network, and compose.yaml with it: work, hangs, deaths (root, 20 minutes)
	scripts/docker-check.sh

.PHONY: page-check
page-check: packages $(PAGE_PYTHON) $(AXE) ## The status page of a real fleet in Chromium (axe, keyboard, phone, dark), its API by schemathesis (5 minutes)
	@scripts/packages.sh chromium
	cargo build --locked $(FEATURES) --bin adu-export
	TARGET=$(TARGET) scripts/page-check.sh $(AXE)

.PHONY: schemas
schemas: ## Write config/schemas/ and docs/MESSAGES.md again from the Rust types
	ADU_EXPORT_WRITE_SCHEMAS=1 cargo test --locked $(FEATURES) --lib message::schema

ASYNCAPI := $(TARGET)/asyncapi-$(ASYNCAPI_PARSER)/node_modules

.PHONY: asyncapi-check
asyncapi-check: $(ASYNCAPI) ## config/asyncapi.json, read by the official parser: no error, no warning
	node scripts/asyncapi-check.mjs $(ASYNCAPI) config/asyncapi.json

$(ASYNCAPI):
	$(SAY) "@asyncapi/parser $(ASYNCAPI_PARSER) from npm in $(@D)"
	command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
	mkdir -p $(@D)
	npm install --prefix $(@D) --silent --no-audit --no-fund --no-save @asyncapi/parser@$(ASYNCAPI_PARSER)

.PHONY: clean-services
clean-services: ## Stop what an interrupted test or demo left running
	for directory in $(TARGET)/tmp/*/services $(TARGET)/demo/services $(TARGET)/soak/services $(TARGET)/monitoring/services; do
		if [ -d "$$directory" ]; then scripts/services.sh stop "$$directory"; fi
	done

# Debian's PostgreSQL, RabbitMQ and Python are used as programs only, never as system services.
.PHONY: packages
packages:
	@scripts/packages.sh

$(PYTHON): tests/oracle/requirements.txt
	$(SAY) "Python with DuckDB, pyarrow, Polars, DataFusion, pika and vertica-python in $(TARGET)/venv"
	rm -rf $(TARGET)/venv
	python3 -m venv $(TARGET)/venv
	$(TARGET)/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(BENCH_PYTHON): bench/requirements.txt
	$(SAY) "Python with the peers of the benches in $(TARGET)/bench-venv"
	rm -rf $(TARGET)/bench-venv
	python3 -m venv $(TARGET)/bench-venv
	$(TARGET)/bench-venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(PAGE_PYTHON): tests/page/requirements.txt
	$(SAY) "Python with playwright and schemathesis in $(TARGET)/page-venv"
	rm -rf $(TARGET)/page-venv
	python3 -m venv $(TARGET)/page-venv
	$(TARGET)/page-venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(AXE):
	$(SAY) "axe-core $(AXE_CORE) from npm in $(TARGET)/axe-$(AXE_CORE)"
	command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
	mkdir -p $(TARGET)/axe-$(AXE_CORE)
	npm install --prefix $(TARGET)/axe-$(AXE_CORE) --silent --no-audit --no-fund --no-save axe-core@$(AXE_CORE)

$(CARGO_DEB):
	$(SAY) "cargo-deb in $(TARGET)/tools"
	cargo install --locked --quiet --root $(TARGET)/tools --target-dir $(TARGET)/tools/build cargo-deb@3.8.0
