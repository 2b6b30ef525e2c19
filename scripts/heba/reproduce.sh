#!/usr/bin/env bash
# A whole protocol, all data sets and seeds; a second call goes on where the first stopped (docs/REPRODUCE.md):
#   bash scripts/heba/reproduce.sh base2new [flags of reproduce.py] [-- KEY VALUE ...]
# DATA, OUTPUT and SHOTS in the environment as for the other scripts.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/../python.sh" || exit 1
if [ $# -eq 0 ]; then
    echo "usage: bash $0 PROTOCOL [flags of reproduce.py] [-- KEY VALUE ...]" >&2
    exit 2
fi

PROTOCOL=$1
shift
exec "$PYTHON" "$HEBA_ROOT/reproduce.py" "$PROTOCOL" --root "${DATA:-$HEBA_ROOT/data}" \
    ${OUTPUT:+--output "$OUTPUT"} ${SHOTS:+--shots $SHOTS} "$@"
