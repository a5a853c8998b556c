# `make` prints the targets. Needs make, git and Go 1.21 or newer, which fetches the toolchain that go.mod names; what
# else a target needs it gets itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Distributions and images turn the fetching of toolchains off by "local"; any other wish stands.
export GOTOOLCHAIN := $(or $(filter-out local,$(GOTOOLCHAIN)),auto)
# Go's own stamp fails in a checkout that belongs to another user; the version is stamped in below.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

git := git -c safe.directory='*'
VERSION ?= $(or $(shell $(git) describe --tags --always --dirty 2>/dev/null),unknown)

buf := go tool -modfile=tools/buf/go.mod buf
golangci := go tool -modfile=tools/lint/go.mod golangci-lint
# One PostgreSQL for all test processes, unless TALLYMAN_TEST_POSTGRES names one.
with_postgres = $(if $(TALLYMAN_TEST_POSTGRES),,bin="$$(tools/postgres.sh)" && TALLYMAN_POSTGRES_BIN="$$bin") \
	go run ./internal/pgtest/with-postgres --
FUZZTIME ?= 10s
TESTFLAGS ?= -timeout 20m

.PHONY: help build run test race examples network languages browser promtool deploy release release-check lint vet generate generate-check fmt fuzz bench bench-quick bench-rounds \
	bench-once bench-go peers figures clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-15s %s\n' "$$name" "$$text"; done

build: ## bin/tallyman, with the version stamped in
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/tallyman ./cmd/tallyman

run: build ## try it: 2,000 generated documents with a few bad items, and whether the numbers add up
	tools/make-run.sh

test: examples network languages browser promtool deploy ## every test, on PostgreSQL and SQLite
	$(with_postgres) go test $(TESTFLAGS) ./...

race: examples network languages browser promtool ## every test under the race detector (needs a C compiler)
	$(with_postgres) env CGO_ENABLED=1 go test -race -timeout 60m ./...

# What lies in deploy/, by a module of its own. Never from the cache, which does not know of files outside of a module.
deploy:
	go -C deploy/check test -count=1 ./...

release: ## what is released, for all systems, in dist/ (needs GNU tar)
	tools/release.sh

release-check: ## whether two builds of a release, in two folders, are the same
	tools/release-check.sh

# The examples of docs/protocol.md call the server by buf: compiled here rather than on a test's time.
examples:
	@$(buf) --version >/dev/null

# What one test makes networks with.
network:
	@tools/iproute2.sh

lint: vet ## golangci-lint and buf lint
	$(golangci) run
	$(buf) lint
	$(buf) format --diff --exit-code

# What one test checks the rules of deploy/prometheus with.
promtool:
	@tools/promtool.sh

# What examples in other languages are run with.
languages:
	@tools/languages.sh

# What the dashboard is tested in.
browser:
	@tools/chromium.sh

# bench/temporal is left out here: to compile what it asks for takes minutes. make peers builds it.
vet:
	go vet ./...
	go -C bench/peers vet ./...
	go -C deploy/check vet ./...

# buf build first: what does not compile deletes nothing.
generate: ## the code that is generated from proto/
	$(buf) build
	find proto server/rest/gateway -name '*.pb*.go' -delete
	$(buf) generate

generate-check: generate ## fail if the committed generated code is not current
	@left="$$($(git) status --porcelain -- proto server/rest)"; if [ -n "$$left" ]; then \
		echo "generated code is not current: run make generate and commit"; echo "$$left"; \
		$(git) --no-pager diff -- proto server/rest; exit 1; fi

fmt: ## format Go and proto files
	$(golangci) fmt
	$(buf) format -w

fuzz: ## each fuzz target for FUZZTIME (10s)
	tools/fuzz.sh $(FUZZTIME)

# What is measured lies in bin/bench, a file each, from which make figures fills docs/benchmarks.md. BENCHFLAGS and
# PEERSFLAGS say how large; TALLYMAN_BENCH_DOCUMENTS is the size of the collection that the annotation stores load.
bench: bench-rounds bench-once peers bench-go ## everything that is measured, about 35 minutes on two quiet cores

bench-quick: ## the same with small sizes, in a few minutes, to see that it works: the numbers say little
	$(MAKE) bench-rounds bench-once BENCHFLAGS="--rounds 1 --batches 5000 --finished 20000 --small-jobs 100 --big-items 20000 \
		--documents 1000 --kills 1 --lines 2000 --culprits 4 --starts 3 --jobs 20 --megabytes 10 --sessions 50 --watchers 50 --for 5s"
	$(MAKE) peers PEERSFLAGS="-rounds 1 -batches 5000 -jobs 20"
	$(MAKE) bench-go BENCHTIME=1x

# Scenarios that are short, in three rounds, then those whose own turns make rounds superfluous. drain and latency are
# measured beside the peers.
measure = $(with_postgres) sh -c 'bin/tallyman bench $(1) --database "$$TALLYMAN_TEST_POSTGRES" $(BENCHFLAGS) \
	--report bin/bench/$@.json'

bench-rounds: build
	@mkdir -p bin/bench
	$(call measure,start held jobs annotations ingest watch --rounds 3 --for 10s)

bench-once: build
	@mkdir -p bin/bench
	$(call measure,history crash fleet)

BENCHTIME ?= 200ms
bench-go:
	@mkdir -p bin/bench
	$(with_postgres) go test -timeout 60m -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./... | tee bin/bench/go.txt

peers: build ## the drain and the latency of Tallyman beside those of other queues, in turns
	@mkdir -p bin/bench
	tools/redis.sh
	tools/graphile.sh
	cd bench/peers && go build -o ../../bin/peers .
	@cd bench/temporal && go build -o ../../bin/temporal . || \
		{ rm -f ../../bin/temporal; echo "peers: Temporal cannot be built: it is not measured" >&2; }
	$(with_postgres) bin/peers -version $(VERSION) -report bin/bench/peers.json $(PEERSFLAGS)

figures: ## put what was measured last into docs/benchmarks.md
	go run ./bench/figures -into docs/benchmarks.md $(wildcard $(addprefix bin/bench/,peers.json bench-rounds.json bench-once.json go.txt))

clean: ## remove what was built, downloaded and generated for a run
	rm -rf bin .cache tallyman-data
