#!/usr/bin/env bash
# Installs the programs that are named and missing, where this is root on Debian: `tools/install.sh PROGRAM...`.
set -euo pipefail
missing=()
for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update >/dev/null
        apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "these programs are needed: ${missing[*]}" >&2
        exit 1
    fi
fi
