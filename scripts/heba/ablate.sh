#!/usr/bin/env bash
# The paper's ablations, base and novel, each below OUTPUT/ablation/<variant>; finished ones are skipped:
#   bash scripts/heba/ablate.sh caltech101 1 [base2new] [-- KEY VALUE ...]
#   VARIANTS="full no_slow_fast" bash scripts/heba/ablate.sh caltech101 1    only these
#   python parse_test_res.py output/ablation
# Variants: full, attention_bottleneck, attention_expansion, dense_visual_stream, zero_initialisation, no_slow_fast,
# no_label_smoothing.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
run_variants <<'VARIANTS'
full
attention_bottleneck TRAINER.HeBA.ADAPTER_PLACES attention
attention_expansion TRAINER.HeBA.ADAPTER_PLACES attention TRAINER.HeBA.REDUCTION 0.25
dense_visual_stream TRAINER.HeBA.VISUAL_STREAM dense
zero_initialisation TRAINER.HeBA.INIT zero
no_slow_fast TRAINER.HeBA.ADAPTER_SCALE_FACTOR 1
no_label_smoothing TRAINER.HeBA.LABEL_SMOOTHING 0
VARIANTS
