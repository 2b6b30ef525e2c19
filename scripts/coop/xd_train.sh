#!/usr/bin/env bash
# Trains CoOp on all classes of ImageNet: bash scripts/coop/xd_train.sh 1 [x2d] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment trains on another data set.
TRAINER=CoOp
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
xd_train
