#!/usr/bin/env bash
# What is measured on an accelerator, in one command of at most eight minutes on an H100 or H200:
#
#     OUT=runs/accelerator DECODER=runs/smollm2 DATA=data scripts/on_accelerator.sh [--quick]
#
# Small files in $OUT: the machine, agreement with the CPU, speed beside the loop and bergson, LDS and fidelity. A step
# that fails is recorded, and the next goes on. --quick tries the same steps on a CPU, with numbers not worth keeping.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/accelerator}
DECODER=${DECODER:-src/influcoder/demo/decoder}
PYTHON=${PYTHON:-python}
DEVICE=cuda
QUICK=""
if [ "${1:-}" = "--quick" ]; then
	DEVICE=cpu
	QUICK=--quick
fi
export PYTHONPATH="$PWD/src:$PWD/scripts/measure" HF_HUB_OFFLINE=1
mkdir -p "$OUT"
: >"$OUT/steps.txt"

step() { # name, seconds, command...
	local name=$1 limit=$2 begin=$SECONDS
	shift 2
	if timeout "$limit" "$@" >"$OUT/$name.log" 2>&1; then result=done; else result="failed ($?)"; fi
	tail -c 20000 "$OUT/$name.log" >"$OUT/$name.tail" && mv "$OUT/$name.tail" "$OUT/$name.log"
	echo "$name: $result in $((SECONDS - begin)) s" | tee -a "$OUT/steps.txt"
}

gradients() { # workload, examples
	step "speed-$1" 120 "$PYTHON" scripts/measure/gradients.py --device "$DEVICE" --workload "$1" --examples "$2" \
		--repeats 3 --token-budgets 4096 16384 65536 --contenders loop bergson bergson-bf16 influcoder influcoder-bf16 \
		--output-dir "$OUT/speed-$1" $QUICK
}

step machine 60 "$PYTHON" -m influcoder env
step agreement 120 "$PYTHON" scripts/measure/devices.py --decoder "$DECODER" --device "$DEVICE" --examples 64 \
	--output "$OUT/devices.json"
gradients llama-135m 512
[ -n "$QUICK" ] || gradients llama-1.7b 128
if [ -n "${DATA:-}" ]; then
	for reduction in sum mean; do
		step "causal-$reduction" 150 "$PYTHON" -m influcoder benchmark causal --decoder "$DECODER" --data "$DATA" \
			--reduction "$reduction" --seeds 1 --subsets 40 --stepped 8 --max-length 192 \
			--output-dir "$OUT/causal-$reduction" --resume $QUICK
	done
	step fidelity 200 "$PYTHON" -m influcoder benchmark fidelity --decoder "$DECODER" --data "$DATA" --more-pool 0 \
		--more-queries 0 --output-dir "$OUT/fidelity" --resume $QUICK
fi
# What a seed computed is large and can be made again; the numbers are small.
find "$OUT" -type d -name "seed-*" -prune -exec rm -rf {} +
