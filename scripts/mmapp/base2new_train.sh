#!/usr/bin/env bash
# Trains MultiModalAdapterPP on the base classes and evaluates them:
#   bash scripts/mmapp/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=MultiModalAdapterPP
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
