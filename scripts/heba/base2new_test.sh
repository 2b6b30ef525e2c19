#!/usr/bin/env bash
# Evaluates a trained HeBA on the novel classes, at the novel scale and at the base scale beside it:
#   bash scripts/heba/base2new_test.sh caltech101 1 [base2new] [epoch, default the last] [-- KEY VALUE ...]
TRAINER=HeBA
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_test
