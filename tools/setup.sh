#!/bin/sh
# Sets up everything that `make` needs: system packages where something is missing, then a virtual environment.
# What is missing is asked for by what it does, not by a package's name, so other systems than Debian pass too.
# As root, and where there is apt-get, missing things are installed; otherwise they are listed and this fails.
set -eu

venv=${1:?usage: setup.sh VENV}
python=
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: Python 3.11 or newer is needed, and ${PYTHON:-python3} is not; set PYTHON=/path/to/python" >&2
    exit 1
fi

compiles() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | "${CC:-cc}" -x c -fsyntax-only - 2>/dev/null
}
has_headers() {
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

# lines "what is missing|Debian packages", for all that is missing now
missing() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "Python's venv and ensurepip|python3-venv"
    has_headers || echo "Python.h, the headers of $python|python3-dev"
    compiles || echo "a C compiler with its headers|gcc libc6-dev"
    command -v pkg-config >/dev/null 2>&1 || echo "pkg-config|pkg-config"
    pkg-config --exists fuse 2>/dev/null || echo "libfuse 2 for development (pkg-config --exists fuse)|libfuse-dev"
    command -v fusermount3 >/dev/null 2>&1 || echo "fusermount3|fuse3"
}

lacking=$(missing)
if [ -n "$lacking" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    packages=$(printf '%s\n' "$lacking" | cut -d'|' -f2 | tr '\n' ' ')
    echo "setup: installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    apt-get install -qq -y --no-install-recommends $packages </dev/null
    lacking=$(missing)
fi
if [ -n "$lacking" ]; then
    {
        echo "setup: missing on this machine (on Debian: the package in brackets):"
        printf '%s\n' "$lacking" | sed 's/\(.*\)|\(.*\)/  - \1 [\2]/'
    } >&2
    exit 1
fi

# an environment whose interpreter is gone or older is made anew
if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
# by a path, as an installed package is found: the finder that pip would install costs each start of the interpreter 25 ms
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
    -e '.[llfuse,dev]'
