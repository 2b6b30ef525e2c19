#!/usr/bin/env bash
# Evaluates a trained HeBA on the novel classes, at the novel scale and at the base scale beside it:
#   bash scripts/heba/base2new_test.sh caltech101 1 [base2new] [epoch, default the last] [-- KEY VALUE ...]
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 2 4 "DATASET SEED [CONFIG] [EPOCH]"
TRAINER=HeBA DATASET=${ARGS[0]} SEED=${ARGS[1]} CFG=${ARGS[2]:-base2new} EPOCH=${ARGS[3]:-last}

RUN=$DATASET/shots_$SHOTS/$TRAINER/$CFG/seed$SEED
OPTS=(DATASET.SUBSAMPLE_CLASSES new ${OPTS[@]+"${OPTS[@]}"})
run_train "$OUTPUT/base2new/test_new/$RUN" --seed "$SEED" \
    --eval-only --model-dir "$OUTPUT/base2new/train_base/$RUN" --load-epoch "$EPOCH"
