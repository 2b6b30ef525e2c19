#!/usr/bin/env bash
# Evaluates a trained LwEIB on the novel classes:
#   bash scripts/lweib/base2new_test.sh caltech101 1 [base2new] [epoch, default the last] [-- KEY VALUE ...]
TRAINER=LwEIB
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_test
