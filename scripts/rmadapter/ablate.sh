#!/usr/bin/env bash
# The paper's tables 4-6, base and novel, each below OUTPUT/ablation/<variant>; finished ones are skipped:
#   bash scripts/rmadapter/ablate.sh caltech101 1 [base2new] [-- KEY VALUE ...]
#   VARIANTS="full rec_layers_1" bash scripts/rmadapter/ablate.sh caltech101 1    only these
#   python parse_test_res.py output/ablation
# Table 4: no_constraints, constraints, text_reconstruction, visual_reconstruction; whether its rows with one
# reconstruction keep the constraints is not told: here they do. Table 5: shared_up, independent. Table 6:
# rec_layers_1, rec_layers_3. "full" is in all.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
run_variants <<'VARIANTS'
full
no_constraints TRAINER.RMADAPTER.LAMBDA1 0 TRAINER.RMADAPTER.LAMBDA2 0 TRAINER.RMADAPTER.LAMBDA3 0 TRAINER.RMADAPTER.LAMBDA4 0
constraints TRAINER.RMADAPTER.LAMBDA1 0 TRAINER.RMADAPTER.LAMBDA2 0
text_reconstruction TRAINER.RMADAPTER.LAMBDA1 0
visual_reconstruction TRAINER.RMADAPTER.LAMBDA2 0
shared_up TRAINER.RMADAPTER.SHARING up
independent TRAINER.RMADAPTER.SHARING none
rec_layers_1 TRAINER.RMADAPTER.REC_LAYERS 1
rec_layers_3 TRAINER.RMADAPTER.REC_LAYERS 3
VARIANTS
