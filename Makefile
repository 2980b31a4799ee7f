# hyper2kvm: `make demo` shows the main job, `make test` runs every check.
# Both install what they need on a Debian machine when run as root, and say
# what to install where they cannot.

GO          ?= go
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X github.com/hyper2kvm/hyper2kvm/internal/version.version=$(VERSION)
CROSS       ?= linux/arm64 darwin/arm64 windows/amd64
SOAK        ?= 30m
CASE        ?= qcow2
BENCH       ?=

export CGO_ENABLED ?= 0

.PHONY: all build cross package demo test test-e2e unit lint vuln openapi tidy-check fuzz soak daemons bench profile clean fresh setup-test setup-test-e2e setup-demo setup-bench setup-package

all: build

build: ## the three binaries and the lab vCenter, in build/
	@mkdir -p build
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/ ./cmd/...
	$(GO) build -trimpath -o build/ ./vsphere/vspheretest/labvcenter

cross: $(CROSS:%=cross/%) ## build and vet for other systems: all three for Linux, hyper2kvm and h2kvmctl for others

cross/%: os = $(firstword $(subst /, ,$*))
cross/%: arch = $(lastword $(subst /, ,$*))
cross/%: programs = $(if $(filter linux,$(os)),./cmd/...,./cmd/hyper2kvm ./cmd/h2kvmctl)
cross/%:
	@mkdir -p build/$(os)-$(arch)
	GOOS=$(os) GOARCH=$(arch) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/$(os)-$(arch)/ $(programs)
	GOOS=$(os) GOARCH=$(arch) $(GO) vet -trimpath $$(GOOS=$(os) GOARCH=$(arch) $(GO) list -deps $(programs) | grep ^github.com/hyper2kvm/hyper2kvm/)

package: setup-package ## .deb, .rpm, archives, bills of materials and checksums in build/packages; TARGETS="linux/amd64"
	scripts/package.sh

demo: setup-demo build ## export a bootable guest from the lab vCenter to qcow2, and boot it
	scripts/demo.sh

# What is installed waits for the network and the disk, the linters for the processor: both at once.
test: ## everything CI runs
	$(MAKE) --output-sync=target -j 2 setup-test lint
	$(MAKE) vuln openapi cross unit
	scripts/fuzz.sh $(or $(FUZZTIME),10000x)

# The tests with the race detector, which costs most of the time that all of this takes:
#   -gcflags  SQLite, C that was translated to Go, works in memory that the detector does not look at, and is three times as slow with it
#   GORACE    the tests of each package would wait a second at their end for reports that are still to come
#   -vet=off  "lint" is stricter
unit: build
	CGO_ENABLED=1 GORACE="atexit_sleep_ms=100 $(GORACE)" $(GO) test -race -vet=off -gcflags=modernc.org/sqlite/lib=-race=false \
		-timeout 40m -parallel 4 ./... # most tests wait, for time-outs of what they break
	$(GO) test -vet=off -trimpath -tags purego ./disk/internal/inflate # as on other processors

test-e2e: setup-test-e2e ## a Debian guest from the lab vCenter to a libvirt, where it boots; needs root, takes minutes
	@mkdir -p build
	H2KVM_E2E=$(CURDIR)/build/e2e.md $(GO) test ./daemon/e2e -run TestADebianGuest -count 1 -timeout 2h -v

lint: tidy-check
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	GOFLAGS="$(GOFLAGS) -trimpath" $(GO) run $(GOLANGCI) run ./... # go vet and staticcheck are among it; what it compiles serves "build"

vuln: ## known vulnerabilities in what the programs call; says so where the database cannot be reached
	@scripts/vuln.sh

openapi: ## what spectral and redocly say of the OpenAPI description; says so where npm is missing
	@scripts/openapi.sh

tidy-check:
	$(GO) mod tidy -diff

fresh: ## `make test` on a bare Debian that this makes for itself, as CI runs it; needs root
	scripts/fresh.sh test

fuzz: ## every fuzz target, 200000 runs each; FUZZTIME=10000000x for more
	scripts/fuzz.sh $(FUZZTIME)

soak: setup-test build ## 200 VMs through the daemon in bad weather for SOAK; H2KVM_SOAK_SEED=1 for other weather
	H2KVM_SOAK=$(SOAK) $(GO) test ./daemon/e2e -run TestASoakInBadWeather -count 1 -timeout 0 -v

daemons: setup-test build ## three daemons move 201 VMs while they and their database die; the crash test on PostgreSQL in whole
	H2KVM_DAEMONS=whole H2KVM_CRASH_KILLS=26 $(GO) test ./daemon/e2e -run 'TestThreeDaemons|TestKillingTheDaemonAtAnyInstantLosesNothing/postgres' -count 1 -timeout 0 -v

bench: setup-bench build ## ours beside govc, qemu-img, and curl, in one run; BENCH="-rows 1,4 -sweeps"
	scripts/bench.sh $(BENCH)

profile: setup-bench build ## CPU and heap profiles of one kind of export: CASE=qcow2
	scripts/bench.sh profile -case $(CASE)

setup-test setup-test-e2e setup-demo setup-bench setup-package: setup-%:
	@scripts/setup.sh $*

clean:
	rm -rf build
