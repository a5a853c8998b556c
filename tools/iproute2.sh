#!/usr/bin/env bash
# Installs ip, by which a test makes networks that fail, where it is missing and this is root. Nobody else can, and the
# test then says that it is skipped.
set -euo pipefail
command -v ip >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "iproute2.sh: there is no ip: install iproute2 for the test of networks that fail" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-cache show iproute2 >/dev/null 2>&1 || apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends iproute2 >&2 ||
	{ apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends iproute2 >&2; }
