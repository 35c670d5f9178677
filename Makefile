# twinspan. `make sandbox` shows the main job, `make test` proves it; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := build

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOFLAGS_ := -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
# The agent is weighed (docs/decisions/0007): no HTTP/2, which neither protocol uses; no inlining but in the runtime; functions not aligned.
empty :=
# Optional parts left out of the agent, as in OMIT=omit_broker,omit_diag,omit_firmware,omit_import,omit_modules,omit_reach,omit_sim (docs/decisions/0007).
OMIT ?=
# Long names of type shapes are hashed: nobody reads them, and every device stores them.
AGENT_FLAGS = -trimpath -tags nethttpomithttp2,$(OMIT) -gcflags='all=-l -d=maxshapelen=80' -gcflags=runtime=$(empty) \
              -ldflags '-s -w -funcalign=1 -X main.version=$(VERSION) $(LDEXTRA)'
OUT ?= bin/twinspan
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 5s
PROVE_ROUNDS ?= 2000
PROVE_TESTS := ^Test(Kill|PowerLoss|Corrupt|CommitFails|Model|ModelFile|ModelMemory|Linearizable|LinearizableFindsFaults|Shield|Replay|ReplayFindsFaults|Damping|SixteenHotWriters|SomeManagerStaysReachable|ExplorationFindsPlantedFaults|PowerCutInsideTheWindow)$$

.PHONY: help build agent sandbox conform conform-cwmp test test-short lint generate check-generate cross qemu fuzz bench peers clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## bin/twinspan and bin/twinspan-lab: static, stripped
	@mkdir -p bin
	@$(MAKE) -s agent
	CGO_ENABLED=0 go build $(GOFLAGS_) -o bin/twinspan-lab ./cmd/twinspan-lab

agent: ## only the agent, to OUT (bin/twinspan); OMIT=omit_diag,omit_firmware,... leaves optional parts out
	CGO_ENABLED=0 go build $(AGENT_FLAGS) -o $(OUT) ./cmd/twinspan

sandbox: build ## the main job in one terminal: ACS, broker, two Controllers and the real agent (no root)
	bin/twinspan-lab sandbox

conform: build peers ## the test plans: TP-469 over MQTT (mosquitto with TLS) and over WebSocket, and the checks of TR-069
	bin/twinspan-lab conform usp --mtp mqtt --broker mosquitto --json bin/conform-usp-mqtt.json --markdown bin/conform-usp-mqtt.md
	bin/twinspan-lab conform usp --mtp ws --json bin/conform-usp-ws.json --markdown bin/conform-usp-ws.md
	bin/twinspan-lab conform diff --json bin/conform-diff.json --markdown bin/conform-diff.md
	$(MAKE) conform-cwmp

conform-cwmp: build ## the checks of TR-069 against the built agent
	bin/twinspan-lab conform cwmp --json bin/conform-cwmp.json --markdown bin/conform-cwmp.md

peers: ## the real servers the tests talk to; installs what is missing where it may
	@./.ci/peers

test: peers build ## everything, race detector on, real peers included
	go test -race -timeout 15m ./...
	$(MAKE) fuzz FUZZTIME=3s
	bin/twinspan-lab sandbox
	bin/twinspan-lab prove --rounds 200

prove: build ## the proofs for long: crashes, images of power cuts, failing disks, races, phases (docs/proofs.md; PROVE_ROUNDS=2000)
	bin/twinspan-lab prove --rounds $(PROVE_ROUNDS)
	set -o pipefail; TWINSPAN_KILL_ROUNDS=500 go test -count=1 -timeout 60m -v -run '$(PROVE_TESTS)' ./store ./bridge -rapid.checks=1000 | grep -v '^=== '
	set -o pipefail; go test -count=1 -timeout 60m -v -run '$(PROVE_TESTS)' ./bridge/migration | grep -v '^=== '

test-short: ## the same without race detector, fuzzing and sandbox
	go test -timeout 10m ./...

lint: check-generate ## gofmt, go vet, staticcheck, generated files up to date
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

generate: ## schema tables, protobuf code and docs/coverage.md from their sources
	go generate ./datamodel/tr181 ./usp/proto
	go test ./cmd/internal/house -run TestCoverageTable -update

check-generate: ## the checked-in compiled schema and coverage table match their sources
	go generate ./datamodel/tr181
	@git diff --exit-code --stat -- datamodel/tr181 || { echo "generated files differ: run make generate and commit"; exit 1; }
	go test ./cmd/internal/house -run 'TestCoverageTable' -count=1

cross: ## the agent for the CPUs of gateways
	@set -e; for t in linux/arm64 linux/arm/7 linux/mips linux/mipsle; do \
	  IFS=/ read -r os arch v <<<"$$t"; out=bin/cross/twinspan-$$arch$${v:+v$$v}; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch GOARM=$$v GOMIPS=softfloat go build $(AGENT_FLAGS) -o $$out ./cmd/twinspan; \
	  printf '%-28s %9d bytes\n' $$out $$(stat -c %s $$out); done

qemu: build cross ## the cross-built agents at work under user-mode emulation (needs qemu-user)
	@./.ci/qemu

fuzz: ## every fuzz target for FUZZTIME (default 5s) each
	@./.ci/fuzz $(FUZZTIME)

bench: build ## benchmarks of docs/performance.md
	go test -run '^$$' -bench . -benchmem ./store ./bridge ./datamodel ./cwmp/... ./usp/...
	bin/twinspan-lab bench

clean:
	rm -rf bin
