#!/usr/bin/env bash
# Runs the tests, from any folder, on a fresh machine too; arguments go to pytest: bash scripts/test.sh -k parse
set -euo pipefail

# shellcheck source=scripts/setup.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh" dev
cd "$HEBA_ROOT"
exec "$PYTHON" -m pytest ${1+"$@"}
