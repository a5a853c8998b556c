#!/usr/bin/env bash
# Runs bin/tallyman as a newcomer would, on a generated collection with a few bad items, in a scratch folder that is
# removed at the end, and checks exit code and numbers.
set -euo pipefail
cd "$(dirname "$0")/.."
documents=2000 bad=5
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
file=$scratch/sample.jsonl

bin/tallyman sample --documents $documents --bad $bad --seed 1 "$file"
code=0
# What it ends with are commands on the scratch folder, which does not outlive this script.
bin/tallyman run "$file" --data "$scratch/data" | sed '/^next:/,$d' || code=${PIPESTATUS[0]}
if [ "$code" != 2 ]; then
	echo "make run: exit code $code, want 2: the bad items are to be reported, and nothing else" >&2
	exit 1
fi
bin/tallyman jobs -o json --data "$scratch/data" |
	go run ./tools/checkrun -items "$(wc -l <"$file")" -rejected $bad
cat <<END
What was made for it is gone again. The same with a folder that stays:
  bin/tallyman sample --documents $documents --bad $bad collection.jsonl
  bin/tallyman run collection.jsonl --project my-corpus
END
