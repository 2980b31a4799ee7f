# hyper2kvm: `make demo` shows the main job, `make test` runs every check.
# Both install what they need on a Debian machine when run as root, and say
# what to install where they cannot.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X github.com/hyper2kvm/hyper2kvm/internal/version.version=$(VERSION)
FUZZTIME    ?= 60s
SOAK        ?= 30m
CASE        ?= qcow2
BENCH       ?=

export CGO_ENABLED ?= 0

.PHONY: all build demo test unit lint tidy-check fuzz soak bench profile clean fresh setup-test setup-demo setup-bench

all: build

build: ## the three binaries and the lab vCenter, in build/
	@mkdir -p build
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/ ./cmd/...
	$(GO) build -trimpath -o build/ ./vsphere/vspheretest/labvcenter

demo: setup-demo build ## export a bootable guest from the lab vCenter to qcow2, and boot it
	scripts/demo.sh

test: setup-test lint unit ## everything CI runs

unit: build
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...
	$(GO) test -tags purego ./disk/internal/inflate # as on other processors

lint: tidy-check
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

tidy-check:
	$(GO) mod tidy -diff

fresh: ## `make test` on a bare Debian that this makes for itself, as CI runs it; needs root
	scripts/fresh.sh test

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz.sh $(FUZZTIME)

soak: setup-test build ## 200 VMs through the daemon in bad weather for SOAK; H2KVM_SOAK_SEED=1 for other weather
	H2KVM_SOAK=$(SOAK) $(GO) test ./daemon/e2e -run TestASoakInBadWeather -count 1 -timeout 0 -v

bench: setup-bench build ## ours beside govc, qemu-img, and curl, in one run; BENCH="-rows 1,4 -sweeps"
	scripts/bench.sh $(BENCH)

profile: setup-bench build ## CPU and heap profiles of one kind of export: CASE=qcow2
	scripts/bench.sh profile -case $(CASE)

setup-test setup-demo setup-bench: setup-%:
	@scripts/setup.sh $*

clean:
	rm -rf build
