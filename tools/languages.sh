#!/usr/bin/env bash
# Installs what the examples in Ruby, Python and for curl of docs/ are run with, where it is missing and this is root.
# Nobody else can, and the tests then say that these examples are skipped. Nothing of Tallyman needs them.
set -euo pipefail
packages=(curl python3 python3-grpcio python3-grpc-tools ruby ruby-grpc ruby-grpc-tools ruby-activerecord ruby-pg libprotobuf-dev)
missing=()
for package in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "languages.sh: some examples of docs/ are not run without ${missing[*]}" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2; }
apt-cache show "${missing[@]}" >/dev/null 2>&1 || apt-get update -qq >&2
install || { apt-get update -qq >&2 && install; } ||
	echo "languages.sh: could not install ${missing[*]}: some examples of docs/ are not run" >&2
