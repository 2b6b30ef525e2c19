#!/usr/bin/env bash
# Evaluates a trained RMAdapter on the novel classes:
#   bash scripts/rmadapter/base2new_test.sh caltech101 1 [base2new] [epoch, default the last] [-- KEY VALUE ...]
TRAINER=RMAdapter
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_test
