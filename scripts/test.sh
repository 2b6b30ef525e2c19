#!/usr/bin/env bash
# Runs the tests, from any folder, on a fresh machine too; arguments go to pytest: bash scripts/test.sh -k parse
set -euo pipefail

# shellcheck source=scripts/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh" dev
cd "$HEBA_ROOT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the files share the cores
exec "$PYTHON" -m pytest -n auto --maxprocesses 4 --dist loadfile ${1+"$@"}
