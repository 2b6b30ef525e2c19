#!/usr/bin/env bash
# Trains HeBA on the base classes and evaluates them:
#   bash scripts/heba/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 2 3 "DATASET SEED [CONFIG]"
TRAINER=HeBA DATASET=${ARGS[0]} SEED=${ARGS[1]} CFG=${ARGS[2]:-base2new}

OPTS=(DATASET.SUBSAMPLE_CLASSES base ${OPTS[@]+"${OPTS[@]}"})
run_train "$OUTPUT/base2new/train_base/$DATASET/shots_$SHOTS/$TRAINER/$CFG/seed$SEED" --seed "$SEED"
