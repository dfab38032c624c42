# SentryFW. Two commands matter: `make demo` and `make test`; both set up what is missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
STAMP := .venv/set-up
ENGINE := build/engine/digest
PACKAGES := nftables python3-nftables libnetfilter-queue-dev nmap iproute2 netbase gcc \
  python3 python3-dev python3-venv
# Used by the tests alone: scanners, tracers and recorders; what PortSentry calls (net-tools,
# libwrap0); readers of our files (fail2ban, prometheus' promtool, fish) and of libloc's; a BGP daemon.
TEST_PACKAGES := hping3 masscan zmap traceroute iputils-tracepath iputils-ping mtr-tiny conntrack \
  tcpdump openssl systemd procps net-tools libwrap0 fail2ban prometheus fish python3-location bird2 \
  haproxy nginx-light keepalived redis-server
STOCK_PACKAGES := qemu-system-x86 linux-image-amd64 kmod busybox-static file
STOCK_STAMP := .venv-stock/set-up
# Programs that build packages, and make the Debian that the .deb is tried in.
PACKAGE_PACKAGES := binutils dpkg-dev lintian musl-tools
SUITE_PACKAGES := debootstrap
PACKAGE_TEST_PACKAGES := debootstrap rpm
PACKAGE_STAMP := .venv-package/set-up
SBOM_STAMP := .venv-sbom/set-up
SOURCES := sentryfw tests bench packaging

# Cockpit and Chromium, for the tests of the pages.
WEB_PACKAGES := cockpit-ws cockpit-bridge cockpit-system chromium chromium-driver sudo dbus

# Tests at once. A kernel test waits more than it computes, so there are more than cores.
WORKERS ?= $(shell nproc)
KERNEL_WORKERS ?= $(shell echo $$(( $$(nproc) + 1 )))
# Tests of a module share its fixtures, so a module stays in one worker.
PARALLEL = -n $(1) --dist loadscope
NOT_DEFAULT := not stock_kernel and not package and not web
# Tests in namespaces that failed in the parallel run and passed alone (tests/support/alone.py).
ALONE := .pytest_cache/passed-only-alone

# Installs the Debian packages of a list that are missing. Another apt may be running: dpkg's lock
# is waited for; the lock of `update` has no such option, so that is tried again. The services of
# the packages are not started (systemctl(1), SYSTEMD_OFFLINE).
define install
missing=()
for package in $(1); do
  state=$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true)
  [ "$$state" = installed ] || missing+=("$$package")
done
if [ "$${#missing[@]}" != 0 ]; then
  echo "make: apt: installing $${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1
  tries=0
  until apt-get update -q >/dev/null; do
    tries=$$((tries + 1))
    [ "$$tries" -lt 10 ] || { echo "make: apt-get update failed: is there a network?" >&2; exit 1; }
    sleep 6
  done
  apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 "$${missing[@]}" \
    >/dev/null || { echo "make: apt could not install: $${missing[*]}" >&2; exit 1; }
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

.PHONY: readable translations stock-root stock-lay-out test-roots test-web apt-web release deb packages packages-here apt-suites wheel test-deb apt-package apt-package-test apt-test test-stock-kernel apt-stock fuzz help table setup apt demo test test-fast test-kernel test-peers check fmt golden bench bench-quick lock clean

help:
	@echo "make demo    set up what is missing, then run the fire drill (sentryfw drill)"
	echo "make test    set up what is missing, then run every test but those of packages and of the stock kernel"
	echo "make test-fast  the tests that need no root and no namespaces: a minute"
	echo "make test-kernel  the tests in network namespaces, with real tools: minutes"
	echo "make test-peers  SentryFW with PortSentry and other firewalls: minutes"
	echo "make test-web  the pages for Cockpit and LuCI, in Chromium: minutes"
	echo "make check   format, lint, types, architecture"
	echo "make table   print the table of a configuration as it runs: CONFIG=FILE"
	echo "make setup   only set up: .venv/bin/sentryfw and .venv/bin/sentryfwd"
	echo "make bench   measure; make bench-quick: the short form"
	echo "make deb SUITE=trixie  build dist/*.deb in a root of that suite; make packages: all packages"
	echo "make release  check version, changelogs and tag; build all packages and SHA256SUMS"
	echo "make test-roots  check and test-fast in Debian 12, 13 and unstable"
	echo "make test-deb  install, use, upgrade and remove it in a Debian made for that"
	echo "make fuzz    hostile bytes, for FUZZ_SECONDS=60"

demo: setup
	@$(BIN)/sentryfw drill

# The tests start programs of the checkout as other users, which /root keeps out.
readable:
	@other="setpriv --reuid 65534 --regid 65534 --clear-groups"
	if $$other true 2>/dev/null && ! $$other test -r "$(CURDIR)/Makefile"; then
	  echo "make: the tests run programs as other users, who cannot read $(CURDIR): clone to /srv or /opt" >&2
	  exit 1
	fi

# The tests marked `serial` measure time or memory, so no other test runs at the same time.
test: readable setup apt-test
	@rm -f $(ALONE)
	$(BIN)/python -P tests/support/alone.py -m "$(NOT_DEFAULT) and not serial" $(call PARALLEL,$(KERNEL_WORKERS))
	$(BIN)/pytest -m "$(NOT_DEFAULT) and serial"
	SENTRYFW_ENGINE=plain $(BIN)/pytest $(call PARALLEL,$(WORKERS)) tests/engine
	if [ -s $(ALONE) ]; then
	  echo "make: WARNING: failed in the parallel run, PASSED ONLY ALONE, look at them:" >&2
	  cat $(ALONE) >&2
	fi

# Needs no root: an existing environment is used as it is.
test-fast: $(STAMP) $(ENGINE)
	@$(BIN)/pytest -m "$(NOT_DEFAULT) and not netns and not root and not peers and not slow" $(call PARALLEL,$(WORKERS))

test-kernel: readable setup apt-test
	@$(BIN)/pytest -m "$(NOT_DEFAULT) and netns and not peers and not serial" $(call PARALLEL,$(KERNEL_WORKERS))
	$(BIN)/pytest -m "$(NOT_DEFAULT) and netns and not peers and serial"

test-peers: setup apt-test
	@$(BIN)/pytest -m "$(NOT_DEFAULT) and peers" $(call PARALLEL,$(WORKERS))

# The pages in a real Cockpit and against a stub of LuCI, in Chromium: minutes.
test-web: setup apt-test apt-web
	@$(BIN)/python -P tests/support/alone.py -m "web and not serial" $(call PARALLEL,$(WORKERS)) tests/web
	[ -n "$(NO_COST)" ] || $(BIN)/pytest -m "web and serial" tests/web

check: setup
	@$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# On stock distribution kernels with the queue statement, emulated: some minutes each.
test-stock-kernel: setup apt-stock $(STOCK_STAMP) stock-root stock-lay-out
	@$(BIN)/pytest -m stock_kernel tests/stock_kernel

# Packages for other machines, below dist/: docs/appliances.md describes each. They are built in
# roots of their suites (packaging/suites.py), which debootstrap makes.
SUITE ?= bookworm trixie
TEST_SUITES ?= bookworm trixie sid
ROOTS ?= build/roots
RELEASE ?= 1
IN_SUITES = $(PYTHON) packaging/suites.py --roots $(ROOTS) --release $(RELEASE)

deb: apt-suites
	@$(IN_SUITES) $(SUITE)

packages: apt-suites wheel
	@$(IN_SUITES) bookworm --formats deb rpm apk ipk
	$(IN_SUITES) trixie --formats deb rpm

# In the root of a suite. lintian judges by the rules of that suite.
packages-here: setup apt-package $(PACKAGE_STAMP)
	@rm -rf dist
	$(BIN)/python packaging/build.py $(or $(FORMATS),deb) --release $(RELEASE)
	for package in $$(find dist -name '*.deb'); do
	  lintian --allow-root --fail-on error,warning,info --display-info "$$package"
	done

# Everything for a version: checked, built, listed with its hashes. Signing is the releaser's.
release: setup
	@PYTHONPATH=. $(BIN)/python packaging/release.py check
	rm -rf dist
	$(MAKE) packages
	PYTHONPATH=. $(BIN)/python packaging/release.py manifest

# The templates of the pages' translations, web/luci/po and web/cockpit-po, out of their sources.
translations:
	@$(PYTHON) packaging/translations.py
	$(PYTHON) packaging/cockpit_translations.py

wheel: setup
	@$(BIN)/hatchling build --directory dist

test-deb: setup apt-package-test $(SBOM_STAMP)
	@$(BIN)/pytest -m package tests/package

# The tests in roots of Debian 12, 13 and unstable: Python 3.11 to 3.14, nft 1.0.6 to 1.1.7. Long.
ROOT_TARGETS ?= check test-fast
test-roots: apt-suites
	@$(IN_SUITES) $(TEST_SUITES) --make $(ROOT_TARGETS)

# Debian 13 with its kernel, below build/roots; then SentryFW in it.
stock-root: apt-suites
	@PYTHONPATH=packaging $(PYTHON) tests/stock_kernel/make_root.py install

stock-lay-out:
	@PYTHONPATH=packaging $(PYTHON) tests/stock_kernel/make_root.py lay-out

apt-suites: apt
	@$(call install,$(SUITE_PACKAGES))

apt-package: apt
	@$(call install,$(PACKAGE_PACKAGES))

apt-package-test: apt
	@$(call install,$(PACKAGE_TEST_PACKAGES))

$(PACKAGE_STAMP): requirements-package.lock
	@$(call venv,what packs packages)

$(SBOM_STAMP): requirements-sbom.lock
	@$(call venv,what checks a bill of materials)

apt-test: apt
	@$(call install,$(TEST_PACKAGES))

apt-web: apt
	@$(call install,$(WEB_PACKAGES))

apt-stock: apt
	@$(call install,$(STOCK_PACKAGES))

$(STOCK_STAMP): requirements-stock.lock
	@$(call venv,what boots the emulated machine)

# Hostile bytes into every parser: FUZZ_SECONDS in all, shared by the targets of FUZZ_TARGETS (all
# of them). `make test` runs the inputs that were found once more, without atheris.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
FUZZ_STAMP := .venv-fuzz/set-up

fuzz: setup $(FUZZ_STAMP)
	@PYTHONPATH="$$($(BIN)/python -c 'import site; print(*site.getsitepackages(), sep=chr(58))')" \
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

# The table of a configuration as it runs, in nft's words: CONFIG=file, or the default place.
table: setup
	@$(BIN)/python -m sentryfw.tools.table $(CONFIG)

setup: apt $(STAMP) $(ENGINE)

# The compiled engine, next to its sources. Where it cannot be compiled, the sources run.
$(ENGINE): $(STAMP) packaging/compile_engine.py $(if $(wildcard $(PYTHON)),$(shell $(PYTHON) packaging/compile_engine.py --sources))
	@$(BIN)/python packaging/compile_engine.py || true

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
	  || { echo "make: $(PYTHON) is missing or older than 3.11: make setup, as root, or set PYTHON=" >&2; exit 1; }
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
	$$compile --group sbom -o requirements-sbom.lock
	$$compile --group fuzz -o requirements-fuzz.lock

clean:
	@find sentryfw -name '*.so' -delete
	rm -rf .venv .venv-stock .venv-package .venv-sbom .venv-fuzz tests/fuzz/findings build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
