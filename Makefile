# Reproduce the experiments of the Adam paper. `make` alone lists the targets.

PROFILE ?= verify
MINUTES ?= 10
DATA ?= auto
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
STUDY := $(BIN)/python -m experiments
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# A variable that is mistyped would be ignored.
GIVEN_HERE := $(foreach v,$(.VARIABLES),$(if $(filter command%,$(origin $v)),$v))
UNKNOWN := $(filter-out PROFILE MINUTES DATA PYTHON -*-% MAKE%,$(GIVEN_HERE))
ifneq ($(UNKNOWN),)
$(error unknown variable $(UNKNOWN): use PROFILE, MINUTES, DATA or PYTHON)
endif

PROFILES := verify smoke quick paper published
ifneq ($(words $(PROFILE)) $(filter $(PROFILES),$(PROFILE)),1 $(PROFILE))
$(error PROFILE=$(PROFILE) is not valid: use one of $(PROFILES))
endif
ifneq ($(shell awk -v m='$(subst ','\'',$(MINUTES))' 'BEGIN { print (m ~ /^[0-9]*\.?[0-9]+$$/ && m > 0) }'),1)
$(error MINUTES=$(MINUTES) is not valid: use a number above 0, as in 0.5)
endif
# DATA is auto, real, stand-in, or a folder that holds the data sets. The shell looks for it: make
# would split its name at a space, and take ~ for a folder of the checkout.
ifneq ($(words $(DATA)) $(filter auto real stand-in,$(DATA)),1 $(DATA))
GIVEN := '$(subst ','\'',$(DATA))'
FOLDER := $(shell d=$(GIVEN); case "$$d" in \
  ('~'|'~/'*) d="$$HOME$$(printf %s "$$d" | cut -c2-)";; ('') exit;; esac; CDPATH= cd -- "$$d" 2>/dev/null && pwd)
ifeq ($(FOLDER),)
$(error DATA=$(DATA) is not valid: use auto, real, stand-in or an existing folder)
endif
export ADAM_TF_DATA := $(FOLDER)
override DATA := real
endif

# A virtual environment or PYTHONPATH of the caller must not leak into ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env reproduce check test fuzz torture lint notebooks report lab bench clean

help:  ## list the targets and variables
	@echo "Adam, reproduced. Targets:"
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' \
	  2>/dev/null || sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)
	@echo "Variables:"
	@echo "  PROFILE=verify|smoke|quick|paper|published  what to show or train (now $(PROFILE))"
	@echo "  MINUTES=N  how long reproduce checks the published records, or fuzz tries (now $(MINUTES))"
	@echo "  DATA=auto|real|stand-in|FOLDER  where the data come from (now $(DATA))"
	@echo "  PYTHON=...  a Python 3.11 or newer for the environment (now $(PYTHON))"

env: $(VENV)/ready  ## make the environment in .venv from requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is `$(PYTHON) -V 2>&1`; Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "making $(VENV) from requirements.lock, about two minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

reproduce: env  ## the published verdicts, checked here for MINUTES; or PROFILE=quick, from nothing
ifeq ($(PROFILE),verify)
	@$(STUDY) verify --minutes $(MINUTES) --data $(DATA) --report
else
	@$(STUDY) run --profile $(PROFILE) --data $(DATA)
	@$(STUDY) report --profile $(PROFILE) --data $(DATA)
endif

# A file's tests stay in one process, since they share what they have trained or read. There are as
# many processes as cores, so each of them multiplies its matrices in one thread.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

check: lint  ## lint, types and the quick tests; run it while you work
	$(PYTEST) -m "not slow and not e2e"

test: lint  ## lint, types and the whole test suite
	$(PYTEST) --durations=30

fuzz: env  ## attack every parser with mutated files for MINUTES and print the counts
	$(BIN)/python tests/test_fuzz.py $(MINUTES)

torture: env  ## kill training commands for MINUTES (15) and count what is lost, different or left
	$(BIN)/python tests/torture.py $(if $(filter command% environment%,$(origin MINUTES)),$(MINUTES),15)

lint: env  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: env  ## rewrite the notebooks and the README's table from results/
	@$(STUDY) notebooks

report: env  ## rebuild the report; PROFILE=published shows the published records
	@$(STUDY) report --profile $(PROFILE:verify=published) --data $(DATA)

lab: env  ## open the notebooks in JupyterLab
	JUPYTER_CONFIG_PATH=$(CURDIR)/notebooks/.jupyter $(BIN)/jupyter lab notebooks

bench: env  ## time training steps and optimizer updates
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/runs_at_once.py
	$(BIN)/python benchmarks/optimizer_step.py

clean:  ## remove build/ (records and reports made here) and caches; keeps .venv and results/
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
