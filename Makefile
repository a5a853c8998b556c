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

.PHONY: help build run test race examples network languages lint vet generate generate-check fmt fuzz bench peers clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-15s %s\n' "$$name" "$$text"; done

build: ## bin/tallyman, with the version stamped in
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/tallyman ./cmd/tallyman

run: build ## try it: 2,000 generated documents with a few bad items, and whether the numbers add up
	tools/make-run.sh

test: examples network languages ## every test, on PostgreSQL and SQLite
	$(with_postgres) go test $(TESTFLAGS) ./...

race: examples network languages ## every test under the race detector (needs a C compiler)
	$(with_postgres) env CGO_ENABLED=1 go test -race -timeout 60m ./...

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

# What examples in other languages are run with.
languages:
	@tools/languages.sh

vet:
	go vet ./...
	cd bench/peers && go vet ./...

# buf build first: what does not compile deletes nothing.
generate: ## the code that is generated from proto/
	$(buf) build
	find proto -name '*.pb.go' -delete
	$(buf) generate

generate-check: generate ## fail if the committed generated code is not current
	@left="$$($(git) status --porcelain -- proto)"; if [ -n "$$left" ]; then \
		echo "generated code is not current: run make generate and commit"; echo "$$left"; \
		$(git) --no-pager diff -- proto; exit 1; fi

fmt: ## format Go and proto files
	$(golangci) fmt
	$(buf) format -w

fuzz: ## each fuzz target for FUZZTIME (10s)
	tools/fuzz.sh $(FUZZTIME)

bench: ## the benchmarks; TALLYMAN_BENCH_DOCUMENTS is the size of the collection that the annotation stores load
	$(with_postgres) go test -run '^$$' -bench . -benchmem ./...

peers: build ## the drain and the latency of Tallyman beside those of River, in turns
	cd bench/peers && go build -o ../../bin/peers .
	$(with_postgres) bin/peers -version $(VERSION)

clean: ## remove what was built, downloaded and generated for a run
	rm -rf bin .cache tallyman-data
