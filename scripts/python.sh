# Sourced by the other scripts: sets PYTHON, the interpreter that runs VLM-HeBA, and HEBA_ROOT, the repository.
# Installs nothing (that is setup.sh). From a script in scripts/<method>/:
#
#     . "$(dirname "${BASH_SOURCE[0]}")/../python.sh" || exit 1
#
# PYTHON is the first of: $PYTHON as it is, the active venv's or conda environment's, .venv's in the repository,
# python3. Linux; written for macOS's bash 3.2 as well, but not tried there.

HEBA_ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]:-$0}")/.." && pwd)

heba_pick_python() {
    local folder
    if [ -z "${PYTHON:-}" ]; then
        PYTHON=python3
        for folder in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}" "$HEBA_ROOT/.venv"; do
            if [ -n "$folder" ] && [ -x "$folder/bin/python" ]; then
                PYTHON=$folder/bin/python
                break
            fi
        done
    fi
    if ! command -v "$PYTHON" >/dev/null 2>&1; then
        echo "error: no Python found: '$PYTHON' cannot be run. Install Python 3.10 or newer, or set PYTHON" >&2
        return 1
    fi
    export PYTHON
}

heba_check_python() {
    local missing
    missing=$("$PYTHON" -c 'from importlib.util import find_spec
print(", ".join(name for name in ("torch", "torchvision", "yacs") if find_spec(name) is None))') || missing=everything
    if [ -n "$missing" ]; then
        echo "error: $PYTHON has no $missing. Run: bash '$HEBA_ROOT/scripts/setup.sh'" >&2
        return 1
    fi
}

# setup.sh defines HEBA_SETUP: it wants the functions, since there is nothing to find yet.
if [ -z "${HEBA_SETUP:-}" ]; then
    heba_pick_python && heba_check_python
fi
