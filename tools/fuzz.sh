#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME, one after another, and stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
count=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz TARGET FOLDER. Go before 1.27 sometimes takes the end of the time for a failure (go.dev/issue/75804): all it says
# then is that a deadline has passed, of no input. Only that is tried again.
fuzz() {
	for _ in 1 2 3; do
		if go test -run '^$' -fuzz "^$1\$" -fuzztime "$time" "./$2" </dev/null 2>&1 | tee "$log"; then
			return 0
		fi
		if ! grep -qE '^ +context deadline exceeded$' "$log" || grep -q 'Failing input written' "$log"; then
			return 1
		fi
		echo "== $1 again: its time was over, which is no failure"
	done
	return 1
}

while IFS=: read -r file target; do
	echo "== $target in $(dirname "$file")"
	fuzz "$target" "$(dirname "$file")"
	count=$((count + 1))
done < <(grep -roE --include='*_test.go' --exclude-dir=.cache '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|^\./||; s/:func /:/' | sort)
[ "$count" -gt 0 ] || { echo "fuzz.sh: no fuzz target found" >&2; exit 1; }
echo "$count fuzz targets ran for $time each"
