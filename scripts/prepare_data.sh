#!/usr/bin/env bash
# Downloads and checks data sets: bash scripts/prepare_data.sh caltech101 eurosat | all | descriptions | --check
# DATA in the environment is the data root (default <repository>/data). All options: bash scripts/prepare_data.sh --help
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# Not -m: that would take a package "datasets" of the caller's folder first.
exec "$PYTHON" -c 'import sys; sys.path[0] = sys.argv.pop(1); import command_line; command_line.run("datasets.prepare")' \
    "$HEBA_ROOT" --root "$DATA" ${ARGS[@]+"${ARGS[@]}"}
