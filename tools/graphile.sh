#!/usr/bin/env bash
# Installs Graphile Worker, at the versions that bench/peers/graphile pins, under bin/graphile, by npm. Without npm the
# peer is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v npm >/dev/null; then
	echo "graphile.sh: there is no npm: install it to measure Graphile Worker" >&2
	exit 0
fi
mkdir -p bin/graphile
cp bench/peers/graphile/peer.mjs bin/graphile/
if cmp -s bench/peers/graphile/package-lock.json bin/graphile/package-lock.json && [ -d bin/graphile/node_modules ]; then
	exit 0
fi
cp bench/peers/graphile/package.json bench/peers/graphile/package-lock.json bin/graphile/
npm ci --prefix bin/graphile --ignore-scripts --no-audit --no-fund >&2 ||
	{ rm -rf bin/graphile/node_modules; echo "graphile.sh: npm failed: Graphile Worker is not measured" >&2; }
