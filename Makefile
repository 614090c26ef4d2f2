# Every target does all the set-up it needs by itself: system packages (apt-get, by sudo when not
# root), virtual environment, test users. See setup/.
.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bench-overlay bench-images lock

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

demo: ## run a hostile program in a sandbox of this machine's own root file system
	@setup/demo

test: ## run all the tests: as a user, as a user without subordinate ids, in a test machine
	@setup/test

lint: ## run ruff, mypy and shellcheck
	@setup/lint

bench: ## compare start-up and throughput with podman, crun and bubblewrap
	@setup/bench -m bench.run

bench-overlay: ## compare the FUSE overlay with fuse-overlayfs and the kernel's overlay
	@setup/bench -m bench.overlay

bench-images: ## compare import, pull and build with podman and buildah
	@setup/bench -m bench.images
	@setup/bench -m bench.builds

lock: ## write the lock files anew
	@setup/lock
