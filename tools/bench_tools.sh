#!/bin/sh
# Installs what `make bench` compares with and measures by, where it is missing: as root, by Debian's packages.
# Nothing of it is required: what is not there is named in one line and left out of the comparison.
set -eu

missing() {
    for program in bindfs rclone fio; do
        command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
    done
}

lacking=$(missing)
if [ -n "$lacking" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "bench-tools: installing $lacking"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    apt-get install -qq -y --no-install-recommends $lacking </dev/null || true
    lacking=$(missing)
fi
# not a package of every Debian; compared with where it is there
if ! command -v mount.s3ql >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && apt-cache show s3ql >/dev/null 2>&1; then
    apt-get install -qq -y --no-install-recommends s3ql </dev/null || true
fi
command -v mount.s3ql >/dev/null 2>&1 || lacking="${lacking}s3ql"
if [ -n "$lacking" ]; then
    echo "bench-tools: not here, so not compared: $lacking"
fi
