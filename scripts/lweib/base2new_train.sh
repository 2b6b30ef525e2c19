#!/usr/bin/env bash
# Trains LwEIB on the base classes and evaluates them:
#   bash scripts/lweib/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=LwEIB
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
