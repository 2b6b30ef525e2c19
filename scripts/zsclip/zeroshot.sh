#!/usr/bin/env bash
# Zero-shot CLIP on all classes: bash scripts/zsclip/zeroshot.sh caltech101 [vit_b16] [-- KEY VALUE ...]
# TRAINER=ZeroshotCLIP2 in the environment evaluates the ensemble of templates.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 1 2 "DATASET [CONFIG]"
TRAINER=${TRAINER:-ZeroshotCLIP} CONFIGS=ZeroshotCLIP DATASET=${ARGS[0]} CFG=${ARGS[1]:-vit_b16}

run_train "$OUTPUT/$TRAINER/$CFG/$DATASET" --eval-only
