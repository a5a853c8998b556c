#!/usr/bin/env bash
# Builds what is released into dist/: for each system an archive with the program, its manual pages, completions for shells,
# units and licences; a list of what the program is made of (SBOM, CycloneDX); and the checksums of all. Two builds of one
# commit are the same, byte for byte, wherever they are made: paths are trimmed, and every time is the commit's.
#
#   tools/release.sh [SYSTEM/ARCHITECTURE…]
set -euo pipefail
cd "$(dirname "$0")/.."
git() { command git -c safe.directory='*' "$@"; }

targets=("$@")
[ $# -gt 0 ] || targets=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64)
version=${VERSION:-$(git describe --tags --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH CGO_ENABLED=0 TZ=UTC LC_ALL=C GOFLAGS=-buildvcs=false

dist=$PWD/dist
rm -rf "$dist"
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stamp=@$SOURCE_DATE_EPOCH

build() { # SYSTEM ARCHITECTURE FILE
	GOOS=$1 GOARCH=$2 go build -trimpath -ldflags "-s -w -buildid= -X main.version=$version" -o "$3" ./cmd/tallyman
}

# Pages and completions are the same for all systems: written by the program for this one.
build "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)" "$work/tallyman"
"$work/tallyman" man "$work/man/man1" >/dev/null
mkdir -p "$work/completions"
for shell in bash zsh fish powershell; do
	"$work/tallyman" completion "$shell" >"$work/completions/tallyman.$shell"
done

for target in "${targets[@]}"; do
	system=${target%/*} architecture=${target#*/}
	name=tallyman-$version-$system-$architecture
	folder=$work/$name
	program=tallyman
	[ "$system" != windows ] || program=tallyman.exe
	mkdir -p "$folder"
	build "$system" "$architecture" "$folder/$program"
	cp README.md CHANGELOG.md LICENSE "$folder/"
	cp -r "$work/completions" "$folder/"
	[ "$system" = windows ] || cp -r "$work/man" "$folder/"
	[ "$system" != linux ] || cp -r deploy/systemd "$folder/"
	if [ "$system" = windows ]; then
		go run ./tools/release "$dist/$name.zip" "$work" "$name"
	else
		tar -C "$work" --sort=name --mtime="$stamp" --owner=0 --group=0 --numeric-owner --mode=go+rX,go-w,u+w \
			--format=ustar -cf - "$name" | gzip -n -9 >"$dist/$name.tar.gz"
	fi
	# What a program is made of stands in it.
	go tool -modfile=tools/sbom/go.mod cyclonedx-gomod bin -json -noserial -notimestamp -std -version "$version" \
		-output "$dist/$name.cdx.json" "$folder/$program" 2>"$work/sbom.log" || { cat "$work/sbom.log" >&2; exit 1; }
	echo "$name"
done
(cd "$dist" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
