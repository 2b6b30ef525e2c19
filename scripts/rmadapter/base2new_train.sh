#!/usr/bin/env bash
# Trains RMAdapter on the base classes and evaluates them:
#   bash scripts/rmadapter/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=RMAdapter
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
