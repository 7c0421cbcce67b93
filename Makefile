# Every verb is one line; `make` lists them.
export CGO_ENABLED := 0
SHELL := /bin/bash
BIN := bin

.PHONY: help build images run test check fuzz bench test2 vmtest install clean packages

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## install the Debian packages that are missing (says which)
	@./deploy/packages.sh

build: packages ## build the binaries and the images into bin/
	@./deploy/build.sh $(BIN)

run: build ## start the agent here with sample pods, in the foreground
	@./deploy/try.sh $(BIN)

test: build ## run all tests, as root, on real containerd
	@go test -timeout 20m ./...

check: ## vet, format and shape
	@./deploy/check.sh

fuzz: ## let every fuzzer run for ten seconds
	@./deploy/fuzz.sh 10s

bench: build ## measure speed and footprint as ratios; results belong into docs/benchmarks.md
	@go run ./testenv/bench

test2: build ## run the runtime tests on containerd 2.x, built from its module
	@./deploy/test2.sh

vmtest: build ## boot Debian 12 with systemd and cgroup v2 under QEMU and try everything there
	@./testenv/vm/run.sh

install: build ## install binaries, images and the systemd unit
	@./deploy/install.sh $(BIN)

clean: ## remove what build made
	@rm -rf $(BIN)
