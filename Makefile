# Commands for developers, users and CI. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
E2E_WORKERS ?= 5
PROVIDER ?= kind
# Images on kind: upstream (default), or built from packages and modules, which needs no registry.
SOURCE ?=
CLUSTER ?= ebbtide
ASSETS := platform/ebbtide/server/web/static/vendor
LANGUAGE_SERVICE := tools/language_service/node_modules
# The oldest Knative minor that is supported with KServe, and the newest one.
JUDGE := tools/judge/bin/judge
JUDGE_NEWEST := tools/judge/bin/newest
VECTORS := tools/vectors/bin/vectors
PROMQL := tools/promql/bin/promql
VALE := tools/vale/bin/vale
PROMTOOL := tools/promtool/bin/promtool
LABEL_PROXY := tools/prom-label-proxy/bin/prom-label-proxy
PROSE := PYTHONPATH=tools $(BIN)/python -m text.prose
GO ?= go
ACTIONLINT := cd e2e/modules/actionlint && GOWORK=off $(GO) tool actionlint -shellcheck= -pyflakes=
# One version of each library and one set of flags for the judges, the vectors and the cluster's programs, so that they reuse
# each other's compiled packages. KServe does not compile with the newest libraries.
WORKSPACE := e2e/modules/go.work
WORKSPACE_KSERVE := e2e/modules/kserve/go.work
GO_FLAGS := CGO_ENABLED=0 GOFLAGS="-trimpath -mod=readonly"
GO_SHARED := $(GO_FLAGS) GOWORK=$(CURDIR)/$(WORKSPACE) $(GO)
GO_KSERVE := $(GO_FLAGS) GOWORK=$(CURDIR)/$(WORKSPACE_KSERVE) $(GO)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help audit-python audit-go setup setup-simulate setup-serve setup-test assets demo demo-ui picture test check-tiers mutants accept fuzz lint format types vale prose judge generate check-generated check-pydantic schemas check-schemas overlays vectors check-vectors bench bench-simulate soak lock package plugin site changelog coverage compiled-simulator kustomize helm crane validate-krew-manifest cluster-up cluster-status cluster-down e2e conformance fidelity ci ci-checks ci-schedulers ci-tests vet clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1|/' | column -t -s '|'

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; say which: make PYTHON=python3.12")'
	@echo ".venv: the command line; from PyPI 16 packages, 12 MB installed"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q platform/ebbtide
	@touch $@

$(VENV)/.e2e: $(VENV)/.test requirements/e2e.txt
	@echo ".venv: the tests on a cluster, from PyPI"
	@$(BIN)/pip install --quiet --require-hashes -r requirements/e2e.txt
	@touch $@

$(VENV)/.simulate: $(VENV)/.runtime requirements/simulate.txt
	@echo ".venv: the simulator; from PyPI numpy, numba and its compiler, 252 MB installed"
	@$(BIN)/pip install --quiet --require-hashes -r requirements/simulate.txt
	@touch $@

$(VENV)/.serve: $(VENV)/.simulate requirements/serve.txt $(ASSETS)/.made
	@echo ".venv: the server and the clients of a cluster; from PyPI 41 packages, 114 MB installed"
	@$(BIN)/pip install --quiet --require-hashes -r requirements/serve.txt
	@touch $@

$(VENV)/.test: $(VENV)/.serve $(VENV)/.release $(LANGUAGE_SERVICE)/.made requirements/test.txt requirements/serve-test.txt
	@echo ".venv: tests and linters, from PyPI"
	@$(BIN)/pip install --quiet --require-hashes -r requirements/test.txt -r requirements/serve-test.txt
	@touch $@

$(LANGUAGE_SERVICE)/.made: tools/language_service/package.json tools/language_service/package-lock.json
	@echo "the YAML service of editors, for a test; from npm 27 MB"
	@cd tools/language_service && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(VENV)/.test-core: $(VENV)/.runtime requirements/test-core.txt
	@echo ".venv: the tests of the core, from PyPI"
	@$(BIN)/pip install --quiet --require-hashes -r requirements/test-core.txt
	@touch $@

$(VENV)/.release: $(VENV)/.runtime requirements/release.txt
	@echo ".venv: the build of packages; from PyPI 27 packages, 25 MB installed"
	@$(BIN)/pip install --quiet --require-hashes -r requirements/release.txt
	@touch $@

# Third-party libraries of the web page. npm verifies the hashes of the lock file and runs no scripts of the packages.
$(ASSETS)/.made: tools/assets/package.json tools/assets/package-lock.json tools/assets/editor.js
	@echo "the libraries, the editor and the typeface of the page; from npm 20 MB"
	@cd tools/assets && npm ci --ignore-scripts --no-audit --no-fund --silent
	@mkdir -p $(ASSETS)
	@cd tools/assets/node_modules && cp htmx.org/dist/htmx.min.js uplot/dist/uPlot.iife.min.js uplot/dist/uPlot.min.css \
	  $(CURDIR)/$(ASSETS) && cp htmx.org/LICENSE $(CURDIR)/$(ASSETS)/htmx.txt && cp uplot/LICENSE $(CURDIR)/$(ASSETS)/uPlot.txt
	@cd tools/assets && node_modules/.bin/esbuild editor.js --bundle --minify --format=iife --global-name=ebbtideEditor --target=es2022 \
	  --legal-comments=none --log-level=warning --outfile=$(CURDIR)/$(ASSETS)/editor.min.js
	@cd tools/assets/node_modules && cat @codemirror/view/LICENSE @lezer/common/LICENSE @marijn/find-cluster-break/LICENSE crelt/LICENSE \
	  style-mod/LICENSE w3c-keyname/LICENSE > $(CURDIR)/$(ASSETS)/editor.txt
	@cd tools/assets/node_modules/@fontsource-variable/geist && cp files/geist-latin-wght-normal.woff2 $(CURDIR)/$(ASSETS)/geist.woff2 && \
	  cp LICENSE $(CURDIR)/$(ASSETS)/geist.txt
	@touch $@

setup: $(VENV)/.runtime ## Create .venv with the runtime from the lock files: provides .venv/bin/ebbtide

setup-simulate: $(VENV)/.simulate ## Install the dependencies of simulate and tune

setup-serve: $(VENV)/.serve ## Install the dependencies of serve, slo and the cluster commands (npm downloads the page's libraries)

assets: $(ASSETS)/.made ## Download the page's libraries at pinned versions (needs npm)

setup-test: $(VENV)/.test ## Install the dependencies of tests and linters

demo: setup ## Print one spec, its Service, its cost and its reasons
	@$(BIN)/python tools/demo.py

demo-ui: setup-serve $(if $(filter kind,$(CLUSTER)),$(VENV)/.e2e) ## Serve the web page on a simulated cluster; CLUSTER=kind: on a real one
	@SOURCE=$(SOURCE) bash tools/demo-ui.sh $(filter kind,$(CLUSTER))

picture: setup-test ## Take the pictures of the README and the site (needs Chromium)
	$(BIN)/python tools/terminal.py
	$(BIN)/python tools/glossary.py
	$(BIN)/python tools/picture.py

# Each file runs in one process, which builds its clusters, servers and browsers once, and the files that take long come first
# (tests/conftest.py). Some tests wait, so there is one more worker than cores.
TESTS := $(BIN)/pytest -q -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder
# The tests of these tiers need fewer packages than the others.
SETUP_core := $(VENV)/.test-core
SETUP_simulator := $(VENV)/.test-core $(VENV)/.simulate
test: $(or $(SETUP_$(TIER)),compiled-simulator) ## Run the tests (with upstream's code if it is built: make judge), or those of one tier: TIER=core
	$(TESTS) $(if $(TIER),tests/$(TIER))

check-tiers: setup-test ## Run tests of each tier in copies of the checkout without the folders of other tiers
	$(BIN)/python tools/tiers.py

GROUPS ?=
COUNT ?= 20
SEED ?= 0
mutants: setup-test ## Run the nearest tests on random small changes of the product: GROUPS="floor report" COUNT=20 SEED=0
	PYTHONPATH=tools $(BIN)/python -m mutants.run $(GROUPS) --count=$(COUNT) --seed=$(SEED) $(ARGS)

accept: setup-test ## Write the output of the golden cases as their expected output; read the difference
	$(BIN)/pytest -q tests/core/test_golden.py --accept
	git --no-pager diff --stat -- tests/golden examples

fuzz: setup-test judge ## Compare reader and writer with Go's by fuzzing
	EBBTIDE_FUZZ=long $(BIN)/pytest -q --timeout=0 tests/core/fuzz

lint: setup-test $(VALE) ## Check format, lint rules, layers, workflows and prose (needs Go and a C compiler)
	$(BIN)/ruff format --check platform tests tools e2e
	$(BIN)/ruff check platform tests tools e2e
	$(BIN)/lint-imports
	$(ACTIONLINT) $(CURDIR)/.github/workflows/*.yaml
	$(PROSE)

format: setup-test ## Format the code
	$(BIN)/ruff format platform tests tools e2e
	$(BIN)/ruff check --fix platform tests tools e2e

types: $(VENV)/.e2e ## Check the types
	$(BIN)/mypy

# Vale's grammars are C code: -O1 compiles them faster, -w hides their warnings.
$(VALE): tools/vale/go.mod tools/vale/go.sum
	@echo "building Vale: about a minute the first time, on two cores"
	cd tools/vale && CGO_ENABLED=1 CGO_CFLAGS="-O1 -w" GOFLAGS="-trimpath -mod=readonly" GOWORK=off \
	  $(GO) build -ldflags "-s -w" -o bin/vale github.com/vale-cli/vale/v3/cmd/vale

vale: $(VALE) ## Build Vale, which lints prose (needs Go and a C compiler)

prose: setup-test $(VALE) ## Print the prose alerts and their counts, of everything or of FILES="platform/ebbtide/server/web README.md"
	@$(PROSE) $(ARGS) $(FILES)

$(JUDGE): $(wildcard tools/judge/*.go) tools/judge/go.mod tools/judge/go.sum $(WORKSPACE_KSERVE)
	@echo "building the judge: about 6 minutes the first time, on two cores"
	cd tools/judge && $(GO_KSERVE) build -ldflags "-s -w" -o bin/judge .

$(JUDGE_NEWEST): $(wildcard tools/judge/*.go tools/judge/newest/*.go) tools/judge/newest/go.mod tools/judge/newest/go.sum $(WORKSPACE)
	@echo "building the judge of the newest versions: about 6 minutes the first time, on two cores"
	cd tools/judge/newest && $(GO_SHARED) build -ldflags "-s -w" -o ../bin/newest .

$(PROMTOOL): tools/promtool/go.mod tools/promtool/go.sum
	@echo "building promtool: about 3 minutes the first time, on two cores"
	cd tools/promtool && GOFLAGS="-trimpath -mod=readonly" GOWORK=off \
	  $(GO) build -ldflags "-s -w" -o bin/promtool github.com/prometheus/prometheus/cmd/promtool

$(LABEL_PROXY): tools/prom-label-proxy/go.mod tools/prom-label-proxy/go.sum
	@echo "building prom-label-proxy: about a minute the first time, on two cores"
	cd tools/prom-label-proxy && $(GO_FLAGS) GOWORK=off \
	  $(GO) build -ldflags "-s -w" -o bin/prom-label-proxy github.com/prometheus-community/prom-label-proxy

judge: $(JUDGE) $(JUDGE_NEWEST) $(PROMTOOL) $(PROMQL) $(LABEL_PROXY) ## Build the judge: upstream's own code as programs (needs Go)

$(PROMQL): $(wildcard tools/promql/*.go) tools/promql/go.mod tools/promql/go.sum
	@echo "building Prometheus' parser and engine: about 1 minute the first time, on two cores"
	cd tools/promql && $(GO_FLAGS) GOWORK=off $(GO) build -ldflags "-s -w" -o bin/promql .

$(VECTORS): $(wildcard tools/vectors/*.go) tools/vectors/go.mod tools/vectors/go.sum $(WORKSPACE)
	@echo "building upstream's autoscalers: about 4 minutes the first time, on two cores, and seconds after the judge"
	cd tools/vectors && $(GO_SHARED) build -ldflags "-s -w" -o bin/vectors .

vectors: $(VECTORS) ## Write tests/vectors, the decisions of upstream's autoscalers (needs Go)
	@$(VECTORS) -out tests/vectors 2>tools/vectors/bin/log || { cat tools/vectors/bin/log; exit 1; }

check-vectors: $(VECTORS) setup-test ## Fail if upstream or the port makes other decisions than the vectors (needs Go)
	$(BIN)/pytest -q -n auto tests/core/test_autoscaler_vectors.py

generate: setup ## Write all generated files: the compiled schema, the reference, the overlays' manifests
	$(BIN)/python tools/compile_schema.py
	$(BIN)/python tools/docs/generate.py
	$(BIN)/python tools/dashboard/generate.py
	$(BIN)/python tools/crd/generate.py
	$(BIN)/python tools/chart/generate.py
	$(BIN)/python tools/kustomize/generate.py

check-generated: setup-test ## Fail if a generated file is outdated
	$(BIN)/python tools/compile_schema.py --check
	$(BIN)/python tools/docs/generate.py --check
	$(BIN)/python tools/dashboard/generate.py --check
	$(BIN)/python tools/crd/generate.py --check
	$(BIN)/python tools/chart/generate.py --check
	$(BIN)/python tools/kustomize/generate.py --check

PYDANTIC ?= pydantic==2.14.0
check-pydantic: setup-test ## Check the compiled schema with another pydantic, by default the lowest allowed version: PYDANTIC='pydantic<3'
	rm -rf build/pydantic
	$(BIN)/pip install --quiet --target build/pydantic '$(PYDANTIC)'
	PYTHONPATH=build/pydantic $(BIN)/python -c 'import pydantic, pydantic_core as core; print(pydantic.VERSION, core.__version__)'
	PYTHONPATH=build/pydantic $(BIN)/pytest -q -n auto tests/core/test_compiled.py --deselect tests/core/test_compiled.py::test_the_file_is_what_the_models_give

schemas: setup-test ## Reduce upstream's schemas to their structure (needs Go)
	$(BIN)/python tools/schemas/generate.py

check-schemas: setup-test ## Fail if the schemas differ from upstream's (needs Go)
	$(BIN)/python tools/schemas/generate.py --check

E2E := $(BIN)/python -m e2e
# First the cases that share the cluster, then those marked `alone`, then those that install another scheduler, which stays.
# CI runs the unit tests next to the last two. Cases that exclude each other wait (`WHOLE` in e2e/conftest.py).
PHASES ?= shared alone schedulers
# A case that hangs is stopped and prints its observations. pytest's exit code 5 means that CASE selects no case.
E2E_CACHE := .cluster/pytest
E2E_OPTIONS := -q --timeout=900 -o timeout_func_only=true -o cache_dir=$(E2E_CACHE) -p no:hypothesispytest -p no:schemathesis
E2E_PYTEST := $(BIN)/pytest $(E2E_OPTIONS)
ON_CLUSTER := EBBTIDE_E2E_PROVIDER=$(PROVIDER) EBBTIDE_E2E_CLUSTER=$(CLUSTER)

# Before the first download: an installation lasts minutes, and a missing program would end it late. `up` remembers the source.
cluster-needs: # Name the programs that cluster-up needs and that are missing
	@[ "$(PROVIDER)" = existing ] || $(PYTHON) -m e2e.needs \
	  $(or $(SOURCE),$(file < .cluster/$(filter-out ebbtide,$(CLUSTER))/source),upstream) $(if $(wildcard $(ASSETS)/.made),,npm)

cluster-up: cluster-needs $(VENV)/.e2e ## Create a kind cluster with Knative, KServe and Prometheus: SOURCE=upstream|built; or PROVIDER=existing
	@$(E2E) up --provider=$(PROVIDER) --name=$(CLUSTER) --source=$(SOURCE)

cluster-status: $(VENV)/.e2e ## Show whether the cluster is running, and the path of its kubeconfig
	@$(E2E) status --provider=$(PROVIDER) --name=$(CLUSTER)

cluster-down: $(VENV)/.e2e ## Remove the cluster and everything that it created
	@$(E2E) down --provider=$(PROVIDER) --name=$(CLUSTER)

e2e: $(VENV)/.e2e ## Run the end-to-end cases on the cluster, or one: CASE=01-concurrency; REPEAT=1 runs a few failed ones again, alone
	$(if $(filter shared,$(PHASES)),rm -rf .cluster/figures .cluster/failures $(E2E_CACHE))
	@$(if $(filter shared,$(PHASES)),$(ON_CLUSTER) $(E2E_PYTEST) -m "not alone and not schedulers" -n $(E2E_WORKERS) e2e/cases/$(CASE),true) || failed=$$?; \
	  [ $${failed:-5} = 5 ] || exit_with=$$failed; \
	  $(if $(filter alone,$(PHASES)),$(ON_CLUSTER) $(E2E_PYTEST) -m alone -n 3 e2e/cases/$(CASE),true) || [ $$? = 5 ] || exit_with=1; \
	  $(if $(filter schedulers,$(PHASES)),$(ON_CLUSTER) $(E2E_PYTEST) -m schedulers -n 2 e2e/cases/$(CASE),true) || [ $$? = 5 ] || exit_with=1; \
	  [ $${exit_with:-0} != 1 ] || [ -z "$(filter-out 0,$(REPEAT))" ] || { $(ON_CLUSTER) $(BIN)/python -m e2e.repeat $(E2E_OPTIONS) && exit_with=0; }; \
	  $(BIN)/python -m e2e.report; exit $${exit_with:-0}

conformance: $(VENV)/.e2e ## Run Knative Serving's own conformance tests on the cluster, 15 minutes: ARGS="--run=TestCmdArgs --variant=defaults"
	@$(E2E).experiments.conformance --provider=$(PROVIDER) --name=$(CLUSTER) $(ARGS)

RUNS ?= 1
fidelity: $(VENV)/.e2e ## Compare the simulator with the cluster by replaying requests at real speed, 15 minutes per run: RUNS=3
	@$(E2E).experiments.fidelity run --provider=$(PROVIDER) --name=$(CLUSTER) --runs=$(RUNS)

$(VENV)-audit/.made: requirements/audit.txt
	test -x $(VENV)-audit/bin/python || $(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --require-hashes -r requirements/audit.txt
	@touch $@

# The lock files are complete, so that pip does not need to resolve them. Without --strict, pip-audit skips packages for which it
# finds no advisories, all of them behind a mirror of PyPI that does not have any, and reports no vulnerabilities.
audit-python: $(VENV)-audit/.made ## Check the lock files for published vulnerabilities (needs the advisories of PyPI)
	for part in requirements/*.txt; do echo "$$part"; $(VENV)-audit/bin/pip-audit --strict --require-hashes --disable-pip -r $$part || exit 1; done

audit-go: ## Check the Go modules for published vulnerabilities (needs Go and vuln.go.dev)
	# The modules of Vale, promtool, prom-label-proxy and the published files have no Go files, and name their programs as tools.
	for part in "tools/judge -scan module" "tools/vectors -scan module" "tools/promql -scan module" "tools/vale -scan package tool" "tools/promtool -scan package tool" "tools/prom-label-proxy -scan package tool" "tools/publish -scan package tool"; do echo "$$part"; \
	  GOWORK=off $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 -C $$part || exit 1; done

$(VENV)-site/.made: requirements/site.txt
	test -x $(VENV)-site/bin/python || $(PYTHON) -m venv $(VENV)-site
	$(VENV)-site/bin/pip install --quiet --require-hashes -r requirements/site.txt
	@touch $@

site: $(VENV)-site/.made assets ## Build the documentation site in build/site, and check its links (needs npm)
	@NO_COLOR=1 $(VENV)-site/bin/python tools/site_builder/build.py

overlays: setup ## Render each overlay without kustomize plugins to build/overlays
	@bash tools/overlays.sh

bench: setup-test ## Measure render and compare it with helm and kustomize (needs Go, or both on the PATH)
	$(BIN)/python tools/bench/bench.py

bench-simulate: $(VENV)/.simulate ## Measure the simulator: requests per second, and 250 settings on all processors
	$(BIN)/python tools/bench/simulate.py

MINUTES ?= 10
soak: setup-serve ## Run the demo server under mixed traffic and print memory, response times and errors: MINUTES=10
	nice -n 10 $(BIN)/python tools/bench/soak.py --minutes $(MINUTES)

lock: ## Update Python's lock files (needs uv)
	for part in build runtime simulate test test-core serve serve-test release e2e audit site; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" requirements/$$part.in -o requirements/$$part.txt; done
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" e2e/modules/envoy/requirements.in -o e2e/modules/envoy/requirements.txt
	# For the Python of the image, regardless of the local version.
	uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --only-binary :all: --generate-hashes \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --overrides e2e/servers/model/overrides.in --custom-compile-command "make lock" \
	  e2e/servers/model/requirements.in -o e2e/servers/model/requirements.txt
	uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --only-binary :all: --generate-hashes \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  e2e/servers/llm/requirements.in -o e2e/servers/llm/requirements.txt

package: $(VENV)/.release assets ## Build the sdist and the wheel in dist, test both, and write the bill of materials
	@rm -rf dist
	@echo "dist: the sdist and the wheel; downloads nothing"
	@mkdir -p build
	@$(BIN)/python -m build --no-isolation >build/package.log 2>&1 || { cat build/package.log; exit 1; }
	@echo "a test of both in an empty environment; from PyPI the packages of the command line, the simulator and the server"
	@$(BIN)/python tools/try_package.py dist

plugin: setup ## Write the archive of the kubectl plugin and its krew manifest to build/plugin; publishes nothing
	@$(BIN)/python tools/publish/plugin.py

changelog: $(VENV)/.release ## Assemble CHANGELOG.md from the files in changes, for the version in ebbtide/__init__.py
	$(BIN)/towncrier build --yes

# Tests that cover nothing of the measured packages that the others do not.
MEASURED := server/test_web_overview.py server/test_shared_responses.py server/attacks/test_availability.py cluster/attacks/test_member_queries.py
UNMEASURED := $(filter-out $(MEASURED:%=tests/%),$(wildcard $(addprefix tests/*/,test_web*.py test_browser*.py test_simulate*.py \
  test_api_schema.py test_cli_demo.py test_cli_simulate*.py test_docs.py test_fault_law.py test_floor_law.py test_leader_law.py test_judge.py \
  test_kustomize.py test_layers.py test_policies.py test_shared_responses.py test_world.py attacks/test_*.py fuzz/test_*.py)))
# Branch coverage takes more than twice the CPU time of a test, so CI does without it.
coverage: compiled-simulator ## Fail unless the tests cover almost all of the pure core, and 95% of the packages of a cluster
	$(TESTS) --cov --cov-report= $(UNMEASURED:%=--ignore=%)
	$(BIN)/python tools/core_coverage.py

# Otherwise each worker of the tests compiles the simulator.
compiled-simulator: setup-test
	@$(BIN)/ebbtide simulate examples/concurrency-scale-to-zero/spec.yaml --traffic constant:60rps,1h >/dev/null

kustomize helm crane validate-krew-manifest: ## Build the program at its pinned version if none is on the PATH (needs Go)
	@tools/program.sh $@ >/dev/null

CI_CHECKS := judge vet kustomize helm crane validate-krew-manifest check-vectors lint types check-generated check-pydantic check-schemas
CI_TESTS := test check-tiers package site
ci: $(CI_CHECKS) $(CI_TESTS) ## Run everything that CI runs without a cluster

# The cases that install another scheduler, a quota controller or a gateway. CI runs one group after another, as long as it has time.
# The endpoint uses no devices, so its cases run next to KAI's.
SCHEDULERS = $(notdir $(patsubst %/,%,$(dir $(shell grep -l 'mark\.schedulers' e2e/cases/*/test_*.py))))
ci-schedulers:
	@echo '{34-kai,37-endpoint} $(filter-out 34-kai 37-endpoint,$(SCHEDULERS))'

ci-checks ci-tests:
	@echo $($(if $(filter ci-tests,$@),CI_TESTS,CI_CHECKS))

vet: judge
	cd tools/judge && $(GO_KSERVE) vet . && $(GO_KSERVE) test -count=1 .
	cd tools/judge/newest && $(GO_SHARED) vet .
	cd tools/vectors && $(GO_SHARED) vet .
	cd tools/promql && $(GO_FLAGS) GOWORK=off $(GO) vet .

clean: ## Remove build results
	rm -rf $(VENV) $(VENV)-audit $(VENV)-site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis tools/judge/bin tools/vectors/bin tools/promql/bin tools/vale/bin tools/promtool/bin tools/prom-label-proxy/bin
