#!/usr/bin/env bash
# Trains CoCoOp on the base classes and evaluates them:
#   bash scripts/cocoop/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=CoCoOp
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
