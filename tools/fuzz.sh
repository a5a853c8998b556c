#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME, one after another, and stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
count=0
while IFS=: read -r file target; do
	echo "== $target in $(dirname "$file")"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")" </dev/null
	count=$((count + 1))
done < <(grep -roE --include='*_test.go' --exclude-dir=.cache '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|^\./||; s/:func /:/' | sort)
[ "$count" -gt 0 ] || { echo "fuzz.sh: no fuzz target found" >&2; exit 1; }
echo "$count fuzz targets ran for $time each"
