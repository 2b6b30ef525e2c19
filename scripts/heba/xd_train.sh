#!/usr/bin/env bash
# Trains HeBA on all classes of ImageNet: bash scripts/heba/xd_train.sh 1 [x2d] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment trains on another data set.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 1 2 "SEED [CONFIG]"
TRAINER=HeBA DATASET=${SOURCE:-imagenet} SEED=${ARGS[0]} CFG=${ARGS[1]:-x2d}

run_train "$OUTPUT/$DATASET/$TRAINER/${CFG}_${SHOTS}shots/seed$SEED" --seed "$SEED"
