# Sourced by the scripts in the methods' folders: arguments, paths, and the call of train.py.
# In the environment: DATA (data root, default <repository>/data), OUTPUT (default <repository>/output),
# SHOTS (default 16). Relative paths are those of the caller's folder.
set -eu
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
    local folder=$1
    shift
    "$PYTHON" "$HEBA_ROOT/train.py" \
        --root "$DATA" \
        --trainer "$TRAINER" \
        --dataset-config-file "$HEBA_ROOT/configs/datasets/$DATASET.yaml" \
        --config-file "$HEBA_ROOT/configs/trainers/${CONFIGS:-$TRAINER}/$CFG.yaml" \
        --output-dir "$folder" \
        "$@" \
        DATASET.NUM_SHOTS "$SHOTS" \
        ${OPTS[@]+"${OPTS[@]}"}
}
