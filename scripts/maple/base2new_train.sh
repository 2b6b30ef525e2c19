#!/usr/bin/env bash
# Trains MaPLe on the base classes and evaluates them:
#   bash scripts/maple/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=MaPLe
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
