# `make` lists what there is. Every target that needs Python packages sets them up first, in $(VENV).

VENV ?= .venv
PYTHON3 ?= python3
PYTHON := $(VENV)/bin/python

# cuCIM exists for Linux only. The wheel of torch that pip takes there is built for CUDA 13 and cannot share an environment
# with cucim-cu12; EXTRAS=cu12,test serves with a CPU or CUDA 12 build of torch. An environment keeps the one it has.
ifeq ($(shell uname -s),Linux)
EXTRAS ?= $(if $(wildcard $(VENV)/lib/python3*/site-packages/cucim_cu12-*),cu12,cu13),test
else
EXTRAS ?= test
endif
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

DEPLOY_VENV ?= .venv-deploy
LABEL_VENV ?= .venv-label
AUDIT_VENV ?= .venv-audit
NAME := pathology_wsi_dsnet_classification

TEST_JOBS ?= 2

# make bench BENCH=tissue_criterion ARGS="--mosaics DIR --data DIR"
BENCH ?= transformation

.DEFAULT_GOAL := help
.PHONY: help install demo test lint type-check format bench gpu-check faults audit ablations compare doctor weights package verify-package docs deploy-test label-test clean

help: ## list the targets
	@echo "make <target>   (VENV=$(VENV) EXTRAS=$(EXTRAS))"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s%s\n", $$1, $$2}'

install: $(STAMP) ## make the virtual environment with the pinned requirements (again when they change)

$(STAMP): pyproject.toml constraints.txt
	@echo "== installing [$(EXTRAS)] into $(VENV); the first time this downloads some gigabytes"
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 is what constraints.txt was made for; this is %d.%d: name another with PYTHON3=..." % sys.version_info[:2])'
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: install ## the main job end to end on generated slides: every stage, then the test AUC and the report
	PYTHON=$(PYTHON) bash examples/demo.sh

test: install ## every test, in TEST_JOBS processes of one thread
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest --numprocesses $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

lint: install ## ruff: rules and format
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

type-check: install ## mypy on bundle/scripts
	$(VENV)/bin/mypy

format: install ## let ruff format and repair what it can
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

bench: install ## speed of Transformation against its limits and peers (about 20 minutes); BENCH=<name> ARGS="..." runs another
	$(PYTHON) benchmarks/$(BENCH).py $(or $(ARGS),--output_dir bench)

faults: install ## a campaign of damaged files, odd commands, kills and full disks (a quarter of an hour): ARGS="--seed 1 --scale 0.1"; docs/reliability.md
	$(PYTHON) benchmarks/campaign.py $(ARGS)

audit: install ## secrets in the files, versions with known holes (pip-audit, in .venv-audit, where it can be had); docs/security.md
	@test -x $(AUDIT_VENV)/bin/pip-audit || { $(PYTHON3) -m venv $(AUDIT_VENV) && $(AUDIT_VENV)/bin/python -m pip install --quiet pip-audit; } || true
	$(PYTHON) tools/audit.py --pip_audit $(AUDIT_VENV)/bin/pip-audit

gpu-check: install ## what needs a GPU, measured in under 6 minutes on one card (docs/gpu.md); ARGS="--output_dir DIR --device cpu --small"
	$(PYTHON) benchmarks/gpu_check.py $(or $(ARGS),--output_dir gpu)

ablations: install ## the paper's Tables III to V: ARGS="--dataset_dir DIR --output_dir OUT --jobs 2"; docs/ablations.md
	$(PYTHON) -m monai.bundle run ablating --bundle_root bundle --config_file bundle/configs/ablate.yaml $(ARGS)

compare: install ## DSNet and its competitors on one data set: ARGS="--dataset_dir DIR --output_dir OUT --jobs 2"; docs/comparison.md
	$(PYTHON) -m monai.bundle run comparing_methods --bundle_root bundle --config_file bundle/configs/compare_methods.yaml $(ARGS)

doctor: install ## what this machine can read and encode with
	$(PYTHON) -m monai.bundle run doctor --bundle_root bundle --config_file bundle/configs/doctor.yaml

weights: install ## demonstration weights in bundle/models, trained on generated slides (5 minutes on two CPU cores)
	PYTHON=$(PYTHON) MODELS=bundle/models bash examples/weights.sh

bundle/models/model.json:
	$(MAKE) weights

package: install bundle/models/model.json ## dist/pathology_wsi_dsnet_classification_v<version>.zip with the weights in bundle/models; ARGS="--url ADDRESS"
	$(PYTHON) tools/package.py --name $(NAME) $(ARGS)

verify-package: package ## what the model zoo asks of that zip, in an environment of its own (docs/package.md)
	$(PYTHON) tools/verify_package.py dist/$(NAME)_v*.zip

docs: $(VENV)/.docs ## the documentation as pages in site/, every warning an error; to read them: python -m http.server -d site
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

$(VENV)/.docs: pyproject.toml constraints.txt | $(STAMP)
	$(PYTHON) -m pip install --quiet -c constraints.txt -e ".[docs]"
	@touch $@

# Its pins do not go with those of constraints.txt: an environment of its own.
deploy-test: ## the MONAI Deploy application (integrations/monai_deploy) against inference.yaml, in .venv-deploy
	test -x $(DEPLOY_VENV)/bin/python || $(PYTHON3) -m venv $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/python -m pip install -r integrations/monai_deploy/requirements.txt $(shell grep '^pytest==' constraints.txt)
	$(DEPLOY_VENV)/bin/python -m pytest -W "ignore:Current stack size" tests/integrations/test_monai_deploy.py

label-test: install $(LABEL_VENV)/.installed ## the MONAI Label app on a running server, in an environment of its own (.venv-label)
	DSNET_LABEL_PYTHON=$(LABEL_VENV)/bin/python $(PYTHON) -m pytest tests/integrations/test_monai_label.py

$(LABEL_VENV)/.installed: integrations/monailabel/requirements.txt
	test -x $(LABEL_VENV)/bin/python || $(PYTHON3) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install -c $< torch torchvision
	$(LABEL_VENV)/bin/python -m pip install --no-deps -r $<
	@touch $@

clean: ## remove what make wrote, the virtual environment and bundle/models excepted
	rm -rf bench build dist demo faults gpu site .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find bundle tests benchmarks integrations -name __pycache__ -type d -prune -exec rm -rf {} +
