#!/usr/bin/env bash
# The proxies that the fault tests put in front of the server; installed where this is root on Debian.
set -euo pipefail
missing=()
for program in nginx haproxy; do
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
