#!/usr/bin/env bash
# Installs redis-server, which a bench of a peer needs, where it is missing and this is root. Without it the peer is left
# out. Debian would start it as a service: that is forbidden to it.
set -euo pipefail
command -v redis-server >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "redis.sh: there is no redis-server: install it to measure asynq" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-cache show redis-server >/dev/null 2>&1 || apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends redis-server >&2 ||
	{ apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends redis-server >&2; } ||
	echo "redis.sh: redis-server could not be installed: asynq is not measured" >&2
