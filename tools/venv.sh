#!/bin/sh
# venv.sh PYTHON FOLDER: a virtual environment; on Debian without python3-venv, root installs that first.
set -eu
make_venv() { "$1" -m venv "$2"; }
if ! make_venv "$1" "$2" 2>/dev/null; then
    rm -rf "$2"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
        make_venv "$1" "$2"
    else
        echo "Cannot make a virtual environment: install python3-venv (apt-get install python3-venv) and try again." >&2
        exit 1
    fi
fi
