# Sourced by the other scripts from the repository's root: sets $venv, and makes or refreshes it when what it is
# made from has changed. REATTACH_VENV names another folder, REATTACH_PYTHON another interpreter, REATTACH_CONSTRAINTS
# another file of versions, REATTACH_EXTRAS other extras.
# shellcheck shell=bash

venv=${REATTACH_VENV:-$PWD/.venv}
constraints=${REATTACH_CONSTRAINTS:-constraints.txt}
extras=${REATTACH_EXTRAS:-test,lint}

reattach_python() {
    local candidate
    for candidate in ${REATTACH_PYTHON:+"$REATTACH_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "reattach needs Python 3.11 or newer, and found none on the PATH" >&2
    return 1
}

reattach_fingerprint() {
    # The folder counts too: an environment does not survive being moved.
    { echo "$PWD $venv $extras"; cat pyproject.toml "$constraints"; } | sha256sum
}

reattach_make_venv() {
    local python
    python=$(reattach_python)
    echo "Setting up $venv with $("$python" --version). This happens once, and again when dependencies change." >&2
    rm -f "$venv/.fingerprint"
    if [[ ! -x $venv/bin/python ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        rm -rf "$venv"
        # Debian splits ensurepip off; a pip of the interpreter itself serves as well.
        "$python" -m venv "$venv" >/dev/null 2>&1 || { rm -rf "$venv"; "$python" -m venv --without-pip "$venv"; }
    fi
    local pip=("$venv/bin/python" -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        pip=("$python" -m pip --python "$venv/bin/python")
    fi
    "${pip[@]}" install --quiet --disable-pip-version-check --constraint "$constraints" --editable ".[$extras]"
}

if [[ $(cat "$venv/.fingerprint" 2>/dev/null) != "$(reattach_fingerprint)" ]]; then
    mkdir -p "$(dirname "$venv")"
    exec {reattach_lock}<scripts/venv.sh
    flock "$reattach_lock"
    if [[ $(cat "$venv/.fingerprint" 2>/dev/null) != "$(reattach_fingerprint)" ]]; then
        reattach_make_venv
        reattach_fingerprint >"$venv/.fingerprint"
    fi
    exec {reattach_lock}<&-
fi
