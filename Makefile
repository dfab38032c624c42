# SentryFW. Two commands matter: `make demo` and `make test`; both set up what is missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
STAMP := .venv/set-up
PACKAGES := nftables python3-nftables libnetfilter-queue-dev nmap iproute2 gcc \
  python3 python3-dev python3-venv
# What only the tests use: other scanners, tracers, recorders.
TEST_PACKAGES := hping3 masscan zmap traceroute iputils-tracepath iputils-ping conntrack tcpdump \
  openssl systemd
STOCK_PACKAGES := qemu-system-x86 linux-image-amd64 kmod busybox-static
STOCK_STAMP := .venv-stock/set-up
# What builds packages, and makes the Debian that the .deb is tried in.
PACKAGE_PACKAGES := binutils dpkg-dev lintian musl-tools
PACKAGE_TEST_PACKAGES := debootstrap rpm
PACKAGE_STAMP := .venv-package/set-up
SOURCES := sentryfw tests bench packaging

# Installs the Debian packages of a list that are missing.
define install
missing=()
for package in $(1); do
  state=$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true)
  [ "$$state" = installed ] || missing+=("$$package")
done
if [ "$${#missing[@]}" != 0 ]; then
  echo "make: apt: installing $${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null || { echo "make: apt-get update failed: is there a network?" >&2; exit 1; }
  apt-get install -y -q --no-install-recommends "$${missing[@]}" >/dev/null \
    || { echo "make: apt could not install: $${missing[*]}" >&2; exit 1; }
fi
endef

# The environment of a stamp, with what its lock names.
define venv
echo "make: $(@D): installing $(1)"
$(PYTHON) -m venv --clear $(@D)
$(@D)/bin/pip --quiet --disable-pip-version-check install --require-hashes -r $< \
  || { echo "make: pip failed: is there a network?" >&2; exit 1; }
touch $@
endef

.PHONY: deb packages wheel test-deb apt-package apt-package-test apt-test test-stock-kernel apt-stock fuzz help setup apt demo test check fmt golden bench bench-quick lock clean

help:
	@echo "make demo    set up what is missing, then run the fire drill (sentryfw drill)"
	echo "make test    set up what is missing, then run the tests"
	echo "make check   format, lint, types, architecture"
	echo "make setup   only set up: .venv/bin/sentryfw and .venv/bin/sentryfwd"
	echo "make bench   measure; make bench-quick: the short form"
	echo "make deb     build dist/*.deb; make packages: also rpm, apk, ipk, wheel and sdist"
	echo "make test-deb  install, use, upgrade and remove it in a Debian made for that"
	echo "make fuzz    hostile bytes, for FUZZ_SECONDS=60"

demo: setup
	@$(BIN)/sentryfw drill

test: setup apt-test
	@$(BIN)/pytest
	SENTRYFW_ENGINE=plain $(BIN)/pytest tests/engine

check: setup
	@$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# On a stock distribution kernel with the queue statement, emulated: some minutes.
test-stock-kernel: setup apt-stock $(STOCK_STAMP)
	@$(BIN)/pytest -m stock_kernel tests/stock_kernel

# Packages for others' machines, below dist/: docs/appliances.md says what each is for.
deb: setup apt-package $(PACKAGE_STAMP)
	@$(BIN)/python packaging/build.py deb
	lintian --allow-root --fail-on error,warning,info --display-info dist/*.deb

packages: deb wheel
	@$(BIN)/python packaging/build.py rpm apk ipk

wheel: setup
	@$(BIN)/hatchling build --directory dist

test-deb: packages apt-package-test
	@$(BIN)/pytest -m package tests/package

apt-package: apt
	@$(call install,$(PACKAGE_PACKAGES))

apt-package-test: apt
	@$(call install,$(PACKAGE_TEST_PACKAGES))

$(PACKAGE_STAMP): requirements-package.lock
	@$(call venv,what packs packages)

apt-test: apt
	@$(call install,$(TEST_PACKAGES))

apt-stock: apt
	@$(call install,$(STOCK_PACKAGES))

$(STOCK_STAMP): requirements-stock.lock
	@$(call venv,what boots the emulated machine)

# Hostile bytes into everything that reads some: FUZZ_SECONDS in all, shared by the targets of
# FUZZ_TARGETS (all of them). `make test` runs what was found once more, without atheris.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
FUZZ_STAMP := .venv-fuzz/set-up

fuzz: setup $(FUZZ_STAMP)
	@SENTRYFW_ENGINE=plain PYTHONPATH="$$($(BIN)/python -c 'import site; print(*site.getsitepackages(), sep=chr(58))')" \
	  .venv-fuzz/bin/python tests/fuzz/run.py $(FUZZ_SECONDS) $(FUZZ_TARGETS)

$(FUZZ_STAMP): requirements-fuzz.lock
	@$(call venv,atheris)

fmt: setup
	@$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

golden: setup
	@SENTRYFW_GOLDEN=write $(BIN)/pytest -q tests/netfilter || true
	git diff --stat tests/golden

bench: setup
	@$(BIN)/python -m bench

bench-quick: setup
	@$(BIN)/python -m bench --quick

setup: apt $(STAMP)
	@$(BIN)/python -m sentryfw.build_engine || true

apt:
	@if [ "$$(id -u)" != 0 ]; then
	  echo "make: this needs root: the firewall is the kernel's (sudo make $(MAKECMDGOALS))" >&2; exit 4
	fi
	if ! command -v dpkg-query >/dev/null; then
	  echo "make: no Debian here: install the counterparts of: $(PACKAGES)" >&2; exit 0
	fi
	$(call install,$(PACKAGES))

$(STAMP): requirements-build.lock requirements-dev.lock pyproject.toml
	@echo "make: .venv: installing the locked Python packages"
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than 3.11: set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	pip="$(BIN)/pip --quiet --disable-pip-version-check install"
	failed() { echo "make: pip failed: is there a network?" >&2; exit 1; }
	$$pip --require-hashes -r requirements-build.lock || failed
	$$pip --require-hashes --no-build-isolation -r requirements-dev.lock || failed
	$$pip --no-build-isolation --no-deps --editable . || failed
	touch $@

# The locks are made from pyproject.toml; needs uv.
lock:
	@compile="uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header"
	$$compile --group build -o requirements-build.lock
	$$compile pyproject.toml -o requirements.lock
	$$compile pyproject.toml --group dev -o requirements-dev.lock
	$$compile --group stock -o requirements-stock.lock
	$$compile --group package -o requirements-package.lock
	$$compile --group fuzz -o requirements-fuzz.lock

clean:
	@rm -rf .venv .venv-stock .venv-package .venv-fuzz tests/fuzz/findings build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
