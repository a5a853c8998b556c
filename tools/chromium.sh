#!/usr/bin/env bash
# Installs Chromium, in which the dashboard is tested, where there is none and this is root. Nobody else can, and the tests
# then say that they are skipped.
set -euo pipefail
for name in chromium chromium-browser google-chrome google-chrome-stable; do
	command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "chromium.sh: there is no chromium: install it for the tests of the dashboard" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-cache show chromium >/dev/null 2>&1 || apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends chromium >&2 ||
	{ apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends chromium >&2; } ||
	echo "chromium.sh: could not install chromium: the dashboard is not tested" >&2
