# Everything here calls a script that works without make too.
.PHONY: build install run test race crash cluster-test history history-plants posix-test fsx-test fio-verify programs-test bench help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build bin/twofold
	@scripts/build

install: ## install bin/twofold and the helper of mount(8), as root (DESTDIR, PREFIX)
	@scripts/install

run: ## build, serve ./run/data1..4 at 127.0.0.1:9000, mount at ./run/mnt
	@scripts/run

test: ## install what the tests need, and run them
	@scripts/test

race: ## the unit tests with the race detector
	@scripts/race

crash: ## kill -9, power cuts, broken and lost drives under load, for half an hour
	@scripts/crash-campaign

cluster-test: ## faults of four machines and of the network between them, under load: DURATION=10m SEED=1 (docs/cluster.md)
	@scripts/cluster-campaign $(or $(DURATION),10m) $(SEED)

history: ## clients of both views, with faults: is it one history? DURATION=10m (docs/history.md)
	@scripts/history-campaign $(or $(DURATION),10m)

history-plants: ## plant bugs that break the promise, and see that test/history finds them
	@scripts/history-plants

bench: ## measure this machine's own store, or beside a peer: PEER=http://... (docs/benchmarks.md)
	@scripts/bench

posix-test: ## run pjdfstest against the mount: PJDFSTEST=dir (docs/conformance.md)
	@scripts/posix-test $(PJDFSTEST)

fsx-test: ## run xfstests' fsx against the mount: FSX=binary (docs/conformance.md)
	@scripts/fsx-test $(FSX)

fio-verify: ## run fio's verifying jobs against the mount (docs/conformance.md)
	@scripts/fio-verify

programs-test: ## PostgreSQL, a Go build and others in the mount, with kill -9 in between
	@scripts/programs-test
