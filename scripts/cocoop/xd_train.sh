#!/usr/bin/env bash
# Trains CoCoOp on all classes of ImageNet: bash scripts/cocoop/xd_train.sh 1 [x2d] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment trains on another data set.
TRAINER=CoCoOp
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
xd_train
