#!/usr/bin/env bash
# Gets promtool, by which a test checks the rules in deploy/prometheus, where it is missing and this is root. Only the tool is taken
# out of Debian's package: that would bring a server that starts by itself. Nobody else can, and the test then says that it
# is skipped.
set -euo pipefail
command -v promtool >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "promtool.sh: there is no promtool: install prometheus for the test of the rules in deploy/prometheus" >&2
	exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
get() { apt-get download -qq -o APT::Sandbox::User=root prometheus >&2; }
get || { apt-get update -qq >&2 && get; } || {
	echo "promtool.sh: could not get Debian's package prometheus: the rules in deploy/prometheus are not checked by promtool" >&2
	exit 0
}
dpkg-deb -x prometheus_*.deb unpacked
install -m 755 unpacked/usr/bin/promtool /usr/local/bin/promtool
