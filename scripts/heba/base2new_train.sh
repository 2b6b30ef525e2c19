#!/usr/bin/env bash
# Trains HeBA on the base classes and evaluates them:
#   bash scripts/heba/base2new_train.sh caltech101 1 [base2new] [-- KEY VALUE ...]
TRAINER=HeBA
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train
