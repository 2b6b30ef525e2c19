#!/usr/bin/env bash
# Trains RMAdapter on all classes of ImageNet: bash scripts/rmadapter/xd_train.sh 1 [x2d] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment trains on another data set.
TRAINER=RMAdapter
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
xd_train
