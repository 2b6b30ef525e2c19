#!/usr/bin/env bash
# Evaluates the model of xd_train.sh on another data set:
#   bash scripts/rmadapter/xd_test.sh food101 1 [x2d] [epoch, default the last] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment takes the model that was trained there.
TRAINER=RMAdapter
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
xd_test
