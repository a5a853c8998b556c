#!/usr/bin/env bash
# Builds a release of this commit for one system and for Windows twice, from copies in two folders, and compares what came of it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git() { command git -c safe.directory='*' "$@"; }
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH VERSION=check
for copy in one another/and-deeper; do
	mkdir -p "$work/$copy"
	git archive HEAD | tar -xC "$work/$copy"
	(cd "$work/$copy" && tools/release.sh linux/amd64 windows/arm64 >/dev/null)
done
cat "$work/one/dist/SHA256SUMS"
cmp "$work/one/dist/SHA256SUMS" "$work/another/and-deeper/dist/SHA256SUMS"
(cd "$work/one/dist" && sha256sum --quiet --check SHA256SUMS)
tar -xzf "$work"/one/dist/*linux*.tar.gz -C "$work"
"$work"/tallyman-check-linux-amd64/tallyman version | grep -q check
test -s "$work"/tallyman-check-linux-amd64/man/man1/tallyman-run.1
echo "both builds are the same"
