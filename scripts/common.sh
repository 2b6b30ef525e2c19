# Sourced by the scripts in the methods' folders: arguments, paths, and the call of train.py.
# In the environment: DATA (data root, default <repository>/data), OUTPUT (default <repository>/output),
# SHOTS (default 16). Relative paths are those of the caller's folder.
set -eu
case ${1:-} in
-h | --help) # what the script says of itself
    sed -n -e '2,$!d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
. "$(dirname "${BASH_SOURCE[0]}")/python.sh" || exit 1
DATA=${DATA:-$HEBA_ROOT/data}
OUTPUT=${OUTPUT:-$HEBA_ROOT/output}
SHOTS=${SHOTS:-16}

# Positional arguments go to ARGS, what follows "--" to OPTS (KEY VALUE pairs for train.py).
ARGS=()
OPTS=()
while [ $# -gt 0 ]; do
    if [ "$1" = "--" ]; then
        shift
        OPTS=("$@")
        break
    fi
    ARGS+=("$1")
    shift
done

expect_args() {  # expect_args LEAST MOST NAMES: says how the script is called and stops if the number is wrong
    if [ ${#ARGS[@]} -lt "$1" ] || [ ${#ARGS[@]} -gt "$2" ]; then
        echo "usage: bash $0 $3 [-- KEY VALUE ...]" >&2
        exit 2
    fi
}

run_train() {  # run_train FOLDER [FLAGS AND KEY VALUE PAIRS ...]: one run of TRAINER on DATASET with CFG
    local folder=$1 config=$HEBA_ROOT/configs/trainers/${CONFIGS:-$TRAINER}/$CFG
    # A configuration for the data set that the model is (or was) trained on goes before the general one.
    if [ -f "${config}_${TRAINED_ON:-$DATASET}.yaml" ]; then config=${config}_${TRAINED_ON:-$DATASET}; fi
    shift
    "$PYTHON" "$HEBA_ROOT/train.py" \
        --root "$DATA" \
        --trainer "$TRAINER" \
        --dataset-config-file "$HEBA_ROOT/configs/datasets/$DATASET.yaml" \
        --config-file "$config.yaml" \
        --output-dir "$folder" \
        "$@" \
        DATASET.NUM_SHOTS "$SHOTS" \
        ${OPTS[@]+"${OPTS[@]}"}
}

# What the scripts of every method do, with TRAINER set.

base2new_train() {
    expect_args 2 3 "DATASET SEED [CONFIG]"
    DATASET=${ARGS[0]} SEED=${ARGS[1]} CFG=${ARGS[2]:-base2new}
    OPTS=(DATASET.SUBSAMPLE_CLASSES base ${OPTS[@]+"${OPTS[@]}"})
    run_train "$OUTPUT/base2new/train_base/$DATASET/shots_$SHOTS/$TRAINER/$CFG/seed$SEED" --seed "$SEED"
}

base2new_test() {
    expect_args 2 4 "DATASET SEED [CONFIG] [EPOCH]"
    DATASET=${ARGS[0]} SEED=${ARGS[1]} CFG=${ARGS[2]:-base2new}
    local run=$DATASET/shots_$SHOTS/$TRAINER/$CFG/seed$SEED
    OPTS=(DATASET.SUBSAMPLE_CLASSES new ${OPTS[@]+"${OPTS[@]}"})
    run_train "$OUTPUT/base2new/test_new/$run" --seed "$SEED" \
        --eval-only --model-dir "$OUTPUT/base2new/train_base/$run" --load-epoch "${ARGS[3]:-last}"
}

xd_train() {  # on SOURCE, default imagenet
    expect_args 1 2 "SEED [CONFIG]"
    DATASET=${SOURCE:-imagenet} SEED=${ARGS[0]} CFG=${ARGS[1]:-x2d}
    run_train "$OUTPUT/$DATASET/$TRAINER/${CFG}_${SHOTS}shots/seed$SEED" --seed "$SEED"
}

xd_test() {  # of the model that was trained on SOURCE
    expect_args 2 4 "DATASET SEED [CONFIG] [EPOCH]"
    DATASET=${ARGS[0]} SEED=${ARGS[1]} CFG=${ARGS[2]:-x2d} TRAINED_ON=${SOURCE:-imagenet}
    local run=$TRAINER/${CFG}_${SHOTS}shots
    run_train "$OUTPUT/evaluation/$run/$DATASET/seed$SEED" --seed "$SEED" \
        --eval-only --model-dir "$OUTPUT/$TRAINED_ON/$run/seed$SEED" --load-epoch "${ARGS[3]:-last}"
}

run_variants() {  # DATASET SEED [CONFIG]; input: a name and KEY VALUE pairs a line; VARIANTS: only these names
    expect_args 2 3 "DATASET SEED [CONFIG]"
    local here name keys script failed='' output=$OUTPUT
    here=$(dirname "$0")
    export DATA SHOTS PYTHON
    while read -r name keys; do
        case " ${VARIANTS:-$name} " in
            *" $name "*) ;;
            *) continue ;;
        esac
        echo "== $name: ${keys:-as configured}"
        for script in base2new_train.sh base2new_test.sh; do
            # shellcheck disable=SC2086  # keys are words of their own
            OUTPUT=$output/ablation/$name bash "$here/$script" "${ARGS[@]}" -- $keys ${OPTS[@]+"${OPTS[@]}"} \
                </dev/null || {
                if [ $? = 130 ]; then exit 130; fi # interrupted, as train.py has said
                failed="$failed $name"
                break
            }
        done
    done
    if [ -n "$failed" ]; then
        echo "error: these variants failed:$failed" >&2
        exit 1
    fi
}
