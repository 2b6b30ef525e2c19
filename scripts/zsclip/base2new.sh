#!/usr/bin/env bash
# Zero-shot CLIP on the base and on the novel classes, where parse_test_res.py finds both:
#   bash scripts/zsclip/base2new.sh caltech101 [vit_b16] [-- KEY VALUE ...]
# TRAINER=ZeroshotCLIP2 in the environment evaluates the ensemble of templates. Nothing depends on the seed.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 1 2 "DATASET [CONFIG]"
TRAINER=${TRAINER:-ZeroshotCLIP} CONFIGS=ZeroshotCLIP DATASET=${ARGS[0]} CFG=${ARGS[1]:-vit_b16}

GIVEN=(${OPTS[@]+"${OPTS[@]}"})
for PART in train_base:base test_new:new; do
    OPTS=(DATASET.SUBSAMPLE_CLASSES "${PART#*:}" ${GIVEN[@]+"${GIVEN[@]}"})
    run_train "$OUTPUT/base2new/${PART%:*}/$DATASET/shots_$SHOTS/$TRAINER/$CFG/seed1" --seed 1 --eval-only
done
