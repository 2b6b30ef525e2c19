#!/usr/bin/env bash
# Trains CoOp on the base classes and evaluates them:
#   bash scripts/coop/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=CoOp
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
