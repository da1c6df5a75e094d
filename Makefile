# Everyday commands. A fresh clone needs Python 3.11 or newer and make, nothing else: `make run`.
# Set-ups go into .venv (and .venv-train) once; the stamp files there say that one is done.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
PIN := requirements.lock
DOCKER ?= docker
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export INPUT OUTPUT
# Intel Macs get an older OpenVINO (pyproject.toml) than the pinned one, which has no wheels for them.
PINNED := $(if $(filter Darwin-x86_64,$(shell uname -s)-$(shell uname -m)),,PIP_CONSTRAINT=$(PIN))

.DEFAULT_GOAL := help
.PHONY: help setup run shell app test test-all test-engines soak lint lint-page image wheel docker docker-cuda bench bench-gpu train clean lock

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20
	@echo "make run INPUT=a.mp4 OUTPUT=b.mp4 [ARGS='--strength 0.8']"

# The first Python that starts and is new enough; PYTHON=... names one.
$(VENV)/.created:
	@for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "setting up $(VENV) with $$("$$p" --version), once; this takes a minute"; \
	    "$$p" -m venv $(VENV) && touch $@ && exit 0; exit 1; \
	  fi; \
	done; \
	echo "rtface needs Python 3.11 or newer and found none; install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1

# What stands in plugins/ and is installed with rtface by `make run` and `make app`.
USUAL := plugins/rtface-overlays engines plugins/rtface-studio
$(VENV)/.run: $(VENV)/.created pyproject.toml $(USUAL:%=%/pyproject.toml) $(PIN)
	$(PINNED) $(PY) -m pip install -q -e '.[demo]' $(patsubst %-studio',%-studio[tray]',$(USUAL:%=-e '%'))
	@touch $@

PLUGINS := $(wildcard plugins/*/pyproject.toml engines/pyproject.toml engines/*/pyproject.toml engines/published/*/pyproject.toml)
$(VENV)/.dev: $(VENV)/.created pyproject.toml $(PLUGINS) $(PIN)
	$(PINNED) $(PY) -m pip install -q -e '.[dev]' $(PLUGINS:%/pyproject.toml=-e %)
	@touch $@

setup: $(VENV)/.run  ## set up .venv with .venv/bin/rtface

run: $(VENV)/.run  ## enhance INPUT into OUTPUT; without INPUT make a clip and enhance that, into out/
ifeq ($(strip $(INPUT)),)
	@$(PY) -m benchmarks.demo out $(ARGS)
else ifeq ($(strip $(OUTPUT)),)
	@echo "say where to: make run INPUT=... OUTPUT=..." >&2; exit 2
else
	@$(VENV)/bin/rtface run "$$INPUT" "$$OUTPUT" $(ARGS)
endif

shell: $(VENV)/.run  ## open a shell in which `rtface` works as the pages print it; `exit` ends it
	@echo "rtface --help lists what there is; exit ends this shell"
	@PATH="$(abspath $(VENV))/bin:$$PATH" "$${SHELL:-/bin/sh}" -i || true

app: $(VENV)/.run  ## open the studio, a page in the browser; FOLDER=DIR is the folder of your films
	@$(VENV)/bin/rtface app $(if $(FOLDER),--folder "$(FOLDER)") $(ARGS)

test: $(VENV)/.dev  ## run the tests, without the slow ones, on all cores (minutes)
	$(PY) -m pytest -n auto --dist worksteal -m "not soak and not slow" $(ARGS)

test-all: $(VENV)/.dev  ## run all tests but the soak tests, as CI does
	$(PY) -m pytest $(ARGS)

soak: $(VENV)/.dev  ## run the long live tests against real servers (an hour and a half; tests/soak)
	$(PY) -m pytest -m soak -s -o faulthandler_timeout=7300 tests $(ARGS)

lint: $(VENV)/.dev  ## ruff over everything, pyright strict over the library for three systems, who imports whom, lint-page
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m tests.deliberate_faults --check
	$(PY) -m tests.architecture_figures
	@$(MAKE) --no-print-directory -j2 types types-Windows types-Darwin
	$(VENV)/bin/lint-imports --no-logo --no-cache
	@$(MAKE) --no-print-directory lint-page

STUDIO := plugins/rtface-studio
PAGE := $(abspath $(VENV))/page
NODE_VERSION := const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 23 || a == 22 && b > 12 || a == 20 && b > 18 ? 0 : 1)
# In CI it fails where npm's registry answers and what is locked could not be fetched; without a network it says so.
lint-page: $(VENV)/.created  ## eslint and the types of the studio's JavaScript; needs npm, and node 20.19, 22.13 or from 24 on
	@unchecked() { echo "make lint-page: $$1, so the page's JavaScript is not checked"; exit $${2:-0}; }; \
	command -v npm >/dev/null && command -v node >/dev/null || unchecked "npm is not here"; \
	node -e '$(NODE_VERSION)' || unchecked "eslint needs node 20.19, 22.13 or from 24 on, and $$(node --version) is here"; \
	cmp -s $(STUDIO)/package-lock.json $(PAGE)/fetched.json || { \
	  mkdir -p $(PAGE) && cp $(STUDIO)/package.json $(STUDIO)/package-lock.json $(PAGE) && \
	  $$(command -v timeout >/dev/null && echo timeout 300) npm ci --prefix $(PAGE) --silent --no-audit --no-fund --ignore-scripts && \
	  cp $(STUDIO)/package-lock.json $(PAGE)/fetched.json; } || { \
	  failed=0; [ -z "$$CI$$RTFACE_TEST_NPM" ] || ! npm view eslint version --fetch-retries=0 >/dev/null 2>&1 || failed=1; \
	  unchecked "npm could not fetch eslint and typescript" $$failed; }; \
	cd $(STUDIO) && $(PAGE)/node_modules/.bin/eslint rtface_studio/page && $(PAGE)/node_modules/.bin/tsc -p . && \
	echo "the page's JavaScript: no findings of eslint and tsc"

.PHONY: types types-Windows types-Darwin
types: $(VENV)/.dev
	$(VENV)/bin/pyright

# The types of these modules differ between systems; all other files are the same everywhere.
SYSTEM_MODULES := asyncio|ctypes|fcntl|mmap|msvcrt|multiprocessing|os|resource|select|shutil|signal|socket|stat|subprocess|sys|termios|time|urllib
types-Windows types-Darwin: types-%: $(VENV)/.dev
	@echo pyright --pythonplatform $*; $(VENV)/bin/pyright --pythonplatform $* $$(grep -rlE --include='*.py' '^ *(import|from) ($(SYSTEM_MODULES))\b' \
	  rtface plugins/*/rtface_* engines/rtface_engines engines/rtface-learn/rtface_learn)

image: $(VENV)/.run  ## make README's pictures of a call, a film and a photograph
	$(PY) -m benchmarks.demo out && $(PY) -m docs.images.make out

COMMANDS := engines plugins/rtface-farm engines/rtface-learn plugins/rtface-studio
wheel: $(VENV)/.dev  ## build dist/rtface-*.whl with the models inside, and wheels of what adds to its commands
	for project in . $(COMMANDS); do $(PINNED) $(PY) -m build --wheel --outdir dist $$project || exit; done

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' rtface/_version.py)
docker:  ## build the image rtface:cpu (docs/docker.md); DOCKER=podman builds with that
	$(DOCKER) build -f docker/Dockerfile --target cpu --build-arg VERSION=$(VERSION) -t rtface:cpu $(ARGS) .

docker-cuda:  ## build the image rtface:cuda, for NVIDIA GPUs
	$(DOCKER) build -f docker/Dockerfile --target cuda --build-arg VERSION=$(VERSION) -t rtface:cuda $(ARGS) .

bench: $(VENV)/.dev  ## measure speed here: against a plain transcode, and by part
	$(PY) -m benchmarks.transcode
	$(PY) -m benchmarks.pipeline

bench-gpu: $(VENV)/.dev  ## test and measure on an NVIDIA GPU; ARGS=--dry rehearses it without one
	$(PY) -m benchmarks.gpu.first_contact $(ARGS)

$(VENV)-train/.created: $(VENV)/.created
	$(PY) -m venv $(VENV)-train && touch $@

$(VENV)-train/.train: $(VENV)-train/.created pyproject.toml engines/pyproject.toml $(PIN)
	$(PINNED) $(VENV)-train/bin/python -m pip install -q -e '.[train]' -e engines
	@touch $@

FACES ?=
MINUTES ?= 180
train: $(VENV)-train/.train  ## train both engines, from faces to models (engines/training/); FACES=DIR [MINUTES=180]
	@test -n "$(FACES)" || { echo "make train needs FACES=DIR, a folder with train/MANIFEST.csv: see engines/training/README.md"; exit 2; }
	$(VENV)-train/bin/python -m training.train_all --faces "$(FACES)" --minutes $(MINUTES)

# spandrel asks for torchvision, of which the networks that are compared with need nothing.
$(VENV)-train/.engines: $(VENV)-train/.train Makefile
	$(PINNED) $(VENV)-train/bin/python -m pip install -q pytest pytest-timeout pytest-xdist einops==0.8.2 \
	  $(if $(filter Linux,$(shell uname -s)),tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings)
	$(VENV)-train/bin/python -m pip install -q --no-deps spandrel==0.4.2 spandrel_extra_arches==0.2.0
	@touch $@

# `make test`, whose environment has no torch, skips these in part or whole.
test-engines: $(VENV)-train/.engines  ## test training, converter and published architectures, with torch
	$(VENV)-train/bin/python -m pytest tests/engines tests/training engines/published/codeformer/tests engines/published/hifacegan/tests \
	  engines/rtface-learn/tests/test_trainer.py tests/engine_install/test_with_torch.py $(ARGS)

clean:  ## take away what was made, not the set-ups
	rm -rf out build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

lock: $(VENV)/.dev  ## write requirements.lock from what .venv holds
	@{ sed -n '/^#/p' $(PIN); $(PY) -m pip freeze --exclude-editable --exclude setuptools; } > $(PIN).new && mv $(PIN).new $(PIN)
