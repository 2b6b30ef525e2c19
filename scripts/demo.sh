#!/usr/bin/env bash
# The demo, from a fresh clone: sets up, draws the demo's pictures, evaluates the demo's own small CLIP without
# training, trains HeBA on the base classes with three seeds, prints the Base / Novel / HM table.
#
#     bash scripts/demo.sh             some 3 minutes on two cores, once set-up is done
#     bash scripts/demo.sh transfer    also domain generalisation and cross-dataset: some 10 minutes more
#
# Nothing is downloaded but Python packages. What is finished already is skipped. DATA and OUTPUT in the
# environment choose the folders (default: data and output/demo in the repository). See demo/README.md.
set -euo pipefail

HERE=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
if [ $# -gt 1 ] || [ "${1:-transfer}" != transfer ]; then
    echo "usage: bash $0 [transfer]" >&2
    exit 2
fi
PART=${1:-}
set --
# shellcheck source=scripts/setup.sh
. "$HERE/setup.sh"
DATA=${DATA:-$HEBA_ROOT/data}
OUTPUT=${OUTPUT:-$HEBA_ROOT/output/demo}
export DATA OUTPUT PYTHON PYTHONUNBUFFERED=1
export SHOTS=16
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # one is the quickest for a model of this size

# Runs a script and shows the progress in its output; errors come on another channel. All of it is in log.txt.
step() { # step TEXT SCRIPT [ARGUMENTS ...]
    local text=$1 script=$2 status=0
    shift 2
    echo "== $text"
    bash "$HERE/$script" "$@" </dev/null |
        { grep --line-buffered -E '^(epoch \[|\* accuracy|Finished already|Novel classes at)' || true; } || status=$?
    if [ "$status" = 130 ]; then # interrupted, as train.py has said
        exit 130
    elif [ "$status" != 0 ]; then
        echo "error: scripts/$script $* failed; once the cause is gone, the same command goes on from here" >&2
        exit "$status"
    fi
}

START=$SECONDS
echo "== Pictures"
"$PYTHON" "$HEBA_ROOT/demo/make_data.py" --root "$DATA" demo
step "Zero-shot CLIP on the base and on the novel classes" zsclip/base2new.sh demo demo
for SEED in 1 2 3; do
    step "HeBA, seed $SEED: training on the base classes" heba/base2new_train.sh demo "$SEED" demo
    step "HeBA, seed $SEED: the novel classes" heba/base2new_test.sh demo "$SEED" demo
done
echo "== Accuracy in percent, mean ± spread over the seeds; chance is 5"
"$PYTHON" "$HEBA_ROOT/parse_test_res.py" "$OUTPUT/base2new" --vs
echo "A made-up world and a CLIP that knows its words alone: this shows that the machinery works, and nothing about"
echo "HeBA on real pictures. What to expect: demo/README.md. It took $((SECONDS - START)) s."
echo "Pictures: $DATA/demo. Logs, results.json and checkpoints of each run: $OUTPUT/base2new."

if [ "$PART" = transfer ]; then
    SETS="demo demo_cold demo_dark demo_colour_shape demo_shape_background demo_count_shape"
    # shellcheck disable=SC2086  # a list of words
    "$PYTHON" "$HEBA_ROOT/demo/make_data.py" --root "$DATA" $SETS
    for NAME in $SETS; do
        step "Zero-shot CLIP on all classes of $NAME" zsclip/zeroshot.sh "$NAME" demo
    done
    export SOURCE=demo
    for SEED in 1 2 3; do
        step "HeBA, seed $SEED: training on all classes of demo" heba/xd_train.sh "$SEED" demo
        for NAME in $SETS; do
            step "HeBA, seed $SEED: $NAME" heba/xd_test.sh "$NAME" "$SEED" demo
        done
    done
    for NAME in $SETS; do
        echo "== $NAME: zero-shot, then HeBA trained on demo"
        grep -h '^\* accuracy' "$OUTPUT/ZeroshotCLIP/demo/$NAME/log.txt"
        "$PYTHON" "$HEBA_ROOT/parse_test_res.py" --test-log "$OUTPUT/evaluation/HeBA/demo_16shots/$NAME" | grep '^\* accuracy'
    done
fi
