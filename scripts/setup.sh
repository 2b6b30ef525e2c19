#!/usr/bin/env bash
# Makes this machine ready for VLM-HeBA: a Python environment that has what requirements.txt asks for.
#
#     bash scripts/setup.sh            what a run needs
#     bash scripts/setup.sh dev        and what the tests need (the extra `dev` of pyproject.toml)
#     . scripts/setup.sh [dev]         the same from a script, which then has PYTHON and HEBA_ROOT
#
# An active venv or conda environment is used, and the torch in it is kept, whatever build it is. Without one,
# .venv is made in the repository. A second call finds everything done and takes well under a second.
# Linux; written for macOS's bash 3.2 as well, but not tried there.

case ${1:-} in
-h | --help)
    sed -n -e '2,$!d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "${BASH_SOURCE[0]:-$0}"
    return 0 2>/dev/null || exit 0
    ;;
esac
# shellcheck disable=SC2034  # python.sh reads it
HEBA_SETUP=1
# shellcheck source=scripts/python.sh
. "$(dirname -- "${BASH_SOURCE[0]:-$0}")/python.sh"
unset HEBA_SETUP

# What there is, one fact a line: environment or not, its folder, torch, torchvision, is all installed, digest of
# what is asked for, the extra's requirements.
heba_facts() {
    "$PYTHON" - "$HEBA_ROOT" "$1" <<'PY'
import hashlib, pathlib, re, sys
from importlib import metadata, util

root, extra = pathlib.Path(sys.argv[1]), sys.argv[2]
prefix = pathlib.Path(sys.prefix)


def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


wanted = []
if extra:
    found = re.search(rf"^{re.escape(extra)} = \[(.*?)\]", (root / "pyproject.toml").read_text(), re.M | re.S)
    if not found:
        sys.exit(f"error: pyproject.toml has no extra {extra!r}. Run: bash scripts/setup.sh dev")
    wanted = re.findall(r'"([^"]+)"', found[1])
told = [(root / "requirements.txt").read_text(), *wanted, sys.executable, sys.version]
digest = hashlib.sha256("\n".join(told).encode()).hexdigest()
stamp = prefix / f".heba-setup-{extra or 'run'}"
modules = ["torch", "torchvision", "yacs", *(["pytest"] if extra else [])]
ready = stamp.is_file() and stamp.read_text().strip() == digest and all(map(util.find_spec, modules))
print(int(sys.prefix != sys.base_prefix or (prefix / "conda-meta").is_dir()))
print(prefix, version("torch"), version("torchvision"), int(ready), digest, stamp, " ".join(wanted), sep="\n")
PY
}

heba_setup() {
    local extra=${1:-} facts prefix torch torchvision ready digest stamp wanted constraints base kept

    heba_pick_python || return 1
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "error: $PYTHON is $("$PYTHON" --version 2>&1); VLM-HeBA needs Python 3.10 or newer." \
            "Set PYTHON to a newer one (PYTHON=python3.12 bash scripts/setup.sh)" >&2
        return 1
    fi
    facts=$(heba_facts "$extra") || return 1
    if [ "${facts:0:1}" = 0 ]; then # a system-wide Python: leave it alone
        base=$PYTHON
        PYTHON=$HEBA_ROOT/.venv/bin/python
        if [ ! -x "$PYTHON" ]; then
            if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
                echo "error: $base cannot make virtual environments (no ensurepip)." \
                    "On Debian or Ubuntu: apt install python3-venv" >&2
                return 1
            fi
            echo "Making $HEBA_ROOT/.venv with $("$base" --version 2>&1)"
            # A torch that the system has (containers do) is kept too: the environment sees the system's packages.
            if "$base" -c 'import torch' 2>/dev/null; then
                "$base" -m venv --system-site-packages "$HEBA_ROOT/.venv" || return 1
            else
                "$base" -m venv "$HEBA_ROOT/.venv" || return 1
            fi
        fi
        facts=$(heba_facts "$extra") || return 1
    fi
    {
        read -r _ && read -r prefix && read -r torch && read -r torchvision && read -r ready
        read -r digest && read -r stamp && read -r wanted
    } <<EOF
$facts

EOF
    export PYTHON
    if [ "$ready" = 1 ]; then
        return 0
    fi

    if ! "$PYTHON" -m pip --version >/dev/null 2>&1 && ! "$PYTHON" -m ensurepip >/dev/null 2>&1; then
        echo "error: the environment $prefix has no pip. Install it there, or deactivate it to get a .venv" >&2
        return 1
    fi
    constraints=$(mktemp) || return 1
    kept="torch is some GB: minutes"
    if [ -n "$torch" ]; then
        echo "torch==$torch" >>"$constraints"
        kept="torch $torch is kept"
    fi
    if [ -n "$torchvision" ]; then
        echo "torchvision==$torchvision" >>"$constraints"
    fi
    echo "Installing requirements.txt${extra:+ and the extra $extra} into $prefix ($kept)"
    # shellcheck disable=SC2086  # the extra's requirements are words of their own, without spaces
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check \
        -r "$HEBA_ROOT/requirements.txt" -c "$constraints" $wanted; then
        rm -f "$constraints"
        echo "error: pip failed, see above ($kept)." \
            "If torch is in the way, upgrade it and torchvision yourself, or deactivate the environment" >&2
        return 1
    fi
    rm -f "$constraints"
    if ! "$PYTHON" -c 'import torchvision' >/dev/null 2>&1; then
        echo "error: torchvision $("$PYTHON" -m pip show torchvision 2>/dev/null | sed -n 's/^Version: //p') cannot be" \
            "imported in $prefix${torch:+ beside torch $torch}: install the one of the same source and build as" \
            "torch, or deactivate the environment to get a .venv; then run setup.sh again" >&2
        return 1
    fi
    echo "$digest" >"$stamp" 2>/dev/null || true # without it the next call asks pip again, no more
}

heba_setup "${1:-}" || return 1 2>/dev/null || exit 1
if [ "${BASH_SOURCE[0]:-$0}" = "$0" ]; then
    echo "Ready: $PYTHON"
fi
