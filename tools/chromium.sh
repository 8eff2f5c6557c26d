#!/bin/sh
# Debian's chromium for the page's tests, where it is missing and can be installed.
# Without it the page's tests are reported as not run.
set -u
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing chromium for the page's tests"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null && exit 0
fi
echo "No chromium here: the page's tests will not run (apt-get install chromium)." >&2
exit 0
