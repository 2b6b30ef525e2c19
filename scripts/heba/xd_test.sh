#!/usr/bin/env bash
# Evaluates the model of xd_train.sh on another data set:
#   bash scripts/heba/xd_test.sh food101 1 [x2d] [epoch, default the last] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment takes the model that was trained there.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 2 4 "DATASET SEED [CONFIG] [EPOCH]"
TRAINER=HeBA DATASET=${ARGS[0]} SEED=${ARGS[1]} CFG=${ARGS[2]:-x2d} EPOCH=${ARGS[3]:-last}

RUN=$TRAINER/${CFG}_${SHOTS}shots
run_train "$OUTPUT/evaluation/$RUN/$DATASET/seed$SEED" --seed "$SEED" \
    --eval-only --model-dir "$OUTPUT/${SOURCE:-imagenet}/$RUN/seed$SEED" --load-epoch "$EPOCH"
