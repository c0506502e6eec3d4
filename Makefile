# make run    the demo: gateway, simulator, a real Redis, seeds; nothing to install or edit
# make test   every test
# make soak   everything at once for ten minutes; then nothing may be left (SOAK_SECONDS=60 for less)
# make check  lint, format, types
# make compiled   the data plane as native code, for speed; everything works without it (test-compiled: whole-system tests)
# make fuzz   the readers, by coverage, beside other readers (FUZZ_SECONDS=20 for less; tests/fuzz/README.md)
# make audit  known vulnerabilities of what is pinned (asks a public service), and an SBOM: build/sbom/portcullis.cdx.json
# make bench  our data plane beside other proxies; BENCH=quick make bench: a short one; bench-python-gateways: LiteLLM, Portkey
# make bench-guard   whether we are as fast as we were, beside Envoy and HAProxy (BENCH=--record: from now on)
# make bench-kill    a kill beside other proxies' reloads, and under full load; make bench-memory: memory per client
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: run test soak check compiled test-compiled bench bench-guard bench-kill bench-memory bench-python-gateways fuzz \
  clients agents audit lock clean

run: $(STAMP)
	@$(BIN)/portcullis demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

SOAK_SECONDS ?= 600
soak: $(STAMP)
	$(BIN)/python tests/scenarios/soak.py --seconds $(SOAK_SECONDS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The data plane as native code, from the same sources (mypyc). Needs a C compiler, and a minute and a half; from a copy,
# because what is compiled lands beside its source. Use it: PYTHONPATH=build/compiled, or install build/wheel/*.whl.
compiled: build/compiled/.made
build/compiled/.made: $(STAMP) pyproject.toml $(shell find gateway -type f -not -path '*/__pycache__/*')
	rm -rf build/source build/wheel build/compiled
	mkdir -p build/source
	cp -r pyproject.toml README.md gateway seeds config build/source
	find build/source -name '__pycache__' -prune -exec rm -rf {} +
	cd build/source && HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(CURDIR)/$(BIN)/pip wheel --quiet --disable-pip-version-check \
	  --no-index --no-deps --no-build-isolation --wheel-dir $(CURDIR)/build/wheel .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-index --no-deps --target build/compiled build/wheel/*.whl
	@touch $@

COMPILED_TESTS ?= tests/scenarios/test_scenario_kill.py tests/scenarios/test_scenario_backpressure.py \
  tests/scenarios/test_scenario_bad_input.py tests/scenarios/test_scenario_sdks.py tests/policy/test_policy_snapshot.py
test-compiled: export PYTHONPATH = $(CURDIR)/build/compiled
test-compiled: export PYTHONSAFEPATH = 1
test-compiled: compiled
	$(BIN)/python -c "import gateway.proxy.exchange as it; assert it.__file__.endswith('.so'), it.__file__"
	$(BIN)/python -m pytest -n 2 --dist loadfile $(COMPILED_TESTS)

# Debian's packages for it: nginx libnginx-mod-http-lua wrk haproxy. Who is not installed is skipped, with the reason.
bench: $(STAMP) build/bench/tools compiled
	$(BIN)/python tests/benchmarks/bench_proxies.py $(BENCH)

bench-guard: $(STAMP) build/bench/tools compiled
	$(BIN)/python tests/benchmarks/bench_guard.py $(BENCH)

bench-kill: $(STAMP) build/bench/tools compiled
	$(BIN)/python tests/benchmarks/bench_kill_race.py $(BENCH)
	$(BIN)/python tests/benchmarks/bench_kill_under_load.py

bench-memory: $(STAMP) build/bench/tools compiled
	$(BIN)/python tests/benchmarks/bench_memory.py $(BENCH)

build/bench/tools: requirements-bench.lock
	-$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $@ -r $< \
	  && touch $@

# Half a gigabyte. `make bench` measures them where they are.
bench-python-gateways: build/bench/litellm/.made build/bench/portkey/.made
build/bench/litellm/.made: requirements-gateways.lock
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@
build/bench/portkey/.made: tests/benchmarks/portkey/package-lock.json
	mkdir -p $(@D)
	cp tests/benchmarks/portkey/package.json $< $(@D)
	npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(@D)
	@touch $@

# Helm as a library and the schemas of Kubernetes, for tests/deploy.
build/deploy/tools: requirements-deploy.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $@ -r $<
	@touch $@

# What is in the image, as CycloneDX; known vulnerabilities of what is pinned, by a public service. What it does not know
# has not been audited: that fails, too.
AUDITED := requirements-image.lock requirements.lock
audit: $(STAMP)
	$(BIN)/python -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom
	@mkdir -p build/sbom
	build/audit/bin/cyclonedx-py requirements requirements-image.lock --pyproject pyproject.toml -o build/sbom/portcullis.cdx.json
	for lock in $(AUDITED); do build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done

# Clients that tests talk through and that are too large for the environment: 250 MB.
clients: build/clients/.made
build/clients/.made: $(STAMP) requirements-clients.lock
	rm -rf build/clients
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target build/clients \
	  -r requirements-clients.lock
	@touch $@

# A coding agent that a test talks through: 240 MB, by npm.
agents: build/agents/.made
build/agents/.made:
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/agents @anthropic-ai/claude-code@2.1.197
	@touch $@

# Seconds of CPU for each target. What is found lies in build/fuzz/found, and ends it.
FUZZ_SECONDS ?= 390
fuzz: $(STAMP) build/fuzz/tools
	for target in json form lines head frames; do \
	  PYTHONPATH=build/fuzz/tools nice -n 19 $(BIN)/python tests/fuzz/fuzz_atheris.py $$target --seconds $(FUZZ_SECONDS) || exit 1; \
	done

build/fuzz/tools: requirements-fuzz.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $@ -r $<
	@touch $@

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "portcullis needs Python 3.11 or 3.12; name it: make run PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Pins with hashes for both Python versions, and no addresses.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra embedded --extra otel --extra compile --extra dev requirements-build.in pyproject.toml -o requirements.lock --upgrade
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra embedded --extra otel requirements-build.in pyproject.toml -o requirements-image.lock --upgrade
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra embedded --extra compile requirements-build.in pyproject.toml -o requirements-compile.lock --upgrade
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock) --constraint requirements.lock \
	  requirements-clients.in -o requirements-clients.lock --upgrade

clean:
	rm -rf $(VENV) build dist
