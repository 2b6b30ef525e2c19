#!/usr/bin/env bash
# Trains MultiModalAdapter on the base classes and evaluates them:
#   bash scripts/mma/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=MultiModalAdapter
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
