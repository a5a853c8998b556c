#!/usr/bin/env bash
# Prints the folder of PostgreSQL's server binaries. Where the system has none it gets Debian's: as root by apt-get
# install, otherwise by downloading the packages and unpacking them, with the libraries they lack, under
# .cache/postgres. It starts no server and touches no cluster. TALLYMAN_PG_SEARCH=none makes it blind to what is
# installed, so that the download can be tried on any machine.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache/postgres
root=$cache/tree

say() { echo "postgres.sh: $*" >&2; }

# newest DIR…: the folder of the highest version that has both binaries.
newest() {
	local dir
	for dir in $(printf '%s\n' "$@" | sort -rV); do
		if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
			echo "$dir"
			return 0
		fi
	done
	return 1
}

installed() {
	[ "${TALLYMAN_PG_SEARCH:-}" != none ] || return 1
	newest /usr/lib/postgresql/*/bin && return 0
	local dir
	dir=$(pg_config --bindir 2>/dev/null) && newest "$dir" && return 0
	dir=$(command -v postgres) && newest "$(dirname "$dir")"
}

# install_as_root installs the package. Its cluster is not started: a policy that forbids it stands for the time of the
# installation, unless the machine has one of its own.
install_as_root() {
	export DEBIAN_FRONTEND=noninteractive
	apt-cache show postgresql >/dev/null 2>&1 || apt-get update -qq >&2
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	apt-get install -y -qq --no-install-recommends postgresql >&2 ||
		{ apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends postgresql >&2; }
}

# lacking DIR: the libraries that the server in DIR does not find, with those already unpacked.
lacking() {
	LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-*/ "$root"/lib/*-linux-*/ | tr ' ' ':') \
		ldd "$1/postgres" "$1/initdb" "$1/../lib/"{plpgsql,dict_snowball}.so 2>/dev/null |
		sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | sort -u
}

# download gets the server and then, until nothing is lacking, libraries from the list that apt resolves for this system.
download() {
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
		say "this system has no apt: install PostgreSQL's server, or set TALLYMAN_TEST_POSTGRES"
		return 1
	}
	rm -rf "$root"
	mkdir -p "$root" "$cache/debs" "$cache/apt/state/lists/partial" "$cache/apt/cache/archives/partial"
	# An ordinary user may have no package lists, or stale ones: these are our own.
	local apt=(-qq -o "Dir::State=$cache/apt/state" -o "Dir::State::status=/var/lib/dpkg/status"
		-o "Dir::Cache=$cache/apt/cache" -o "Debug::NoLocking=1" -o "APT::Sandbox::User=$(id -un)")
	say "downloading package lists"
	apt-get "${apt[@]}" update >&2
	local server
	server=$(apt-cache "${apt[@]}" depends postgresql | sed -n 's/.*Depends: \(postgresql-[0-9]*\)$/\1/p' | head -n 1)
	[ -n "$server" ] || { say "apt knows no postgresql package"; return 1; }
	fetch() { # PACKAGE…
		say "downloading $*"
		(cd "$cache/debs" && rm -f ./*.deb && apt-get "${apt[@]}" download "$@" >&2)
		local deb
		for deb in "$cache"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
	}
	fetch "$server"
	local bin candidates missing package wanted
	bin=$(newest "$root"/usr/lib/postgresql/*/bin) || { say "$server holds no server"; return 1; }
	missing=$(lacking "$bin")
	if [ -n "$missing" ]; then
		# Libraries only, without the C library, which must fit the system's loader, and the 100 MB compiler for jit.
		candidates=$(apt-get "${apt[@]}" install --simulate --no-install-recommends "$server" |
			sed -n 's/^Inst \(lib[^ ]*\).*/\1/p' | grep -vE '^lib(llvm|z3|perl|c6|c-)|-perl$' || true)
		wanted=()
		for package in $candidates; do wanted+=("$package"); done
		[ ${#wanted[@]} -gt 0 ] && fetch "${wanted[@]}"
		missing=$(lacking "$bin")
	fi
	[ -z "$missing" ] || { say "the server lacks these libraries, and apt would not install them:" $missing; return 1; }
	rm -rf "$cache/debs" "$cache/apt"
}

installed && exit 0
if [ "$(id -u)" = 0 ] && [ "${TALLYMAN_PG_SEARCH:-}" != none ] && command -v apt-get >/dev/null; then
	say "no PostgreSQL found: installing Debian's package"
	install_as_root
	installed && exit 0
	say "the package is installed, but no server was found"
	exit 1
fi
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # two makes at once download once
[ -e "$cache/complete" ] && newest "$root"/usr/lib/postgresql/*/bin && exit 0
rm -f "$cache/complete"
say "no PostgreSQL found: downloading it to .cache/postgres"
download
touch "$cache/complete"
newest "$root"/usr/lib/postgresql/*/bin
