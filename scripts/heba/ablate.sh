#!/usr/bin/env bash
# The paper's ablations, base and novel, each below OUTPUT/ablation/<variant>; finished ones are skipped:
#   bash scripts/heba/ablate.sh caltech101 1 [base2new] [-- KEY VALUE ...]
#   VARIANTS="full no_slow_fast" bash scripts/heba/ablate.sh caltech101 1    only these
#   python parse_test_res.py output/ablation
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
expect_args 2 3 "DATASET SEED [CONFIG]"

HERE=$(dirname "${BASH_SOURCE[0]}")
export DATA SHOTS PYTHON
ROOT_OUTPUT=$OUTPUT
FAILED=
while read -r NAME KEYS; do
    case " ${VARIANTS:-$NAME} " in
        *" $NAME "*) ;;
        *) continue ;;
    esac
    echo "== $NAME: ${KEYS:-the published settings}"
    for SCRIPT in base2new_train.sh base2new_test.sh; do
        # shellcheck disable=SC2086  # KEYS are words of their own
        OUTPUT=$ROOT_OUTPUT/ablation/$NAME bash "$HERE/$SCRIPT" "${ARGS[@]}" -- $KEYS ${OPTS[@]+"${OPTS[@]}"} \
            </dev/null || { FAILED="$FAILED $NAME"; break; }
    done
done <<'VARIANTS'
full
attention_bottleneck TRAINER.HeBA.ADAPTER_PLACES attention
attention_expansion TRAINER.HeBA.ADAPTER_PLACES attention TRAINER.HeBA.REDUCTION 0.25
dense_visual_stream TRAINER.HeBA.VISUAL_STREAM dense
zero_initialisation TRAINER.HeBA.INIT zero
no_slow_fast TRAINER.HeBA.ADAPTER_SCALE_FACTOR 1
no_label_smoothing TRAINER.HeBA.LABEL_SMOOTHING 0
VARIANTS
if [ -n "$FAILED" ]; then
    echo "error: these variants failed:$FAILED" >&2
    exit 1
fi
