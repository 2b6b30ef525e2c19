#!/usr/bin/env bash
# Trains LwEIB on all classes of ImageNet: bash scripts/lweib/xd_train.sh 1 [x2d] [-- KEY VALUE ...]
# SOURCE=caltech101 in the environment trains on another data set.
TRAINER=LwEIB
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
xd_train
