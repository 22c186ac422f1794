# Shortcuts over CMake. `make demo` and `make test` are all that a newcomer needs; each installs the
# Debian packages it misses, builds, and does its job.

JOBS ?= $(shell nproc)
PACKAGES = scripts/dev/install-packages.sh
VECTORS ?= tests/vectors/data
SEED ?=
T ?=
F ?=
FUZZ_SECONDS ?= 60

.PHONY: all build demo demo-udp-blocked demo-http-only test test-dev test-vectors sim lint format fuzz bench interop install clean

all: build

build:
	$(PACKAGES) build
	cmake --preset release $(if $(wildcard build/CMakeCache.txt),,-DPEERUP_TESTS=OFF)
	cmake --build build --parallel $(JOBS)

# A relay and two peers pair, and a web page comes through the tunnel.
demo:
	$(PACKAGES) demo
	cmake --preset release $(if $(wildcard build/CMakeCache.txt),,-DPEERUP_TESTS=OFF)
	cmake --build build --parallel $(JOBS) --target peerup_all
	examples/demo.sh build/peerup

# The same in a network of its own, whose firewall drops UDP, or lets only HTTP pass.
demo-udp-blocked demo-http-only:
	$(PACKAGES) demo firewall
	cmake --preset release $(if $(wildcard build/CMakeCache.txt),,-DPEERUP_TESTS=OFF)
	cmake --build build --parallel $(JOBS) --target peerup_all
	examples/demo.sh --$(@:demo-%=%) build/peerup

# Everything but interoperability; T=name runs the tests whose name matches.
test: lint
	cmake --preset release -DPEERUP_TESTS=ON
	cmake --build build --parallel $(JOBS)
	ctest --test-dir build --output-on-failure $(if $(T),-R '$(T)',)

# The same under AddressSanitizer and UndefinedBehaviorSanitizer.
test-dev:
	$(PACKAGES) test
	cmake --preset dev -DPEERUP_TESTS=ON
	cmake --build build-dev --parallel $(JOBS)
	ctest --test-dir build-dev --output-on-failure $(if $(T),-R '$(T)',)

# Byte-exact checks over any folder of the vectors' format: make test-vectors VECTORS=DIR
test-vectors:
	$(PACKAGES) test
	cmake --preset release -DPEERUP_TESTS=ON
	cmake --build build --parallel $(JOBS) --target peerup_vectors
	build/tests/vectors/run-vectors $(VECTORS)

# Whole hosts in the simulated network; SEED=n replays one.
sim:
	$(PACKAGES) test
	cmake --preset release -DPEERUP_TESTS=ON
	cmake --build build --parallel $(JOBS)
	$(if $(SEED),PEERUP_SIM_SEED=$(SEED)) ctest --test-dir build --output-on-failure -L sim

lint:
	$(PACKAGES) test
	lua5.4 scripts/dev/check-layers.lua
	luacheck -q lua scripts bindings/meta tests examples

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

# F=name runs one target, else each; FUZZ_SECONDS each.
fuzz:
	$(PACKAGES) fuzz
	cmake --preset fuzz
	cmake --build build-fuzz --parallel $(JOBS)
	tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS) $(F)

bench:
	$(PACKAGES) bench interop
	cmake --preset release $(if $(wildcard build/CMakeCache.txt),,-DPEERUP_TESTS=OFF)
	cmake --build build --parallel $(JOBS) --target peerup_all bench-load perf
	tests/interop/peers.sh build go rust-fast
	tests/bench/run build

interop:
	$(PACKAGES) interop
	cmake --preset release -DPEERUP_TESTS=ON
	cmake --build build --parallel $(JOBS)
	ctest --test-dir build --output-on-failure -C Interop -L interop -V

install: build
	cmake --install build

clean:
	rm -rf build build-dev build-fuzz
