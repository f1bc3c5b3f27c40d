#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building (and, with "test", testing) needs and that are missing.
# As root it runs apt-get; otherwise it asks through sudo; without either it prints the line to run.
#   bootstrap.sh [build|test]
set -eu

needed="gcc libc6-dev libpng-dev libjpeg62-turbo-dev zlib1g-dev libjansson-dev libstb-dev"
useful="" # without these some tests are skipped
if [ "${1:-build}" = test ]; then
    needed="$needed libcmocka-dev g++"
    useful="busybox curl zip unzip valgrind gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "bootstrap: not Debian; what provides these must be there: $needed $useful" >&2
    exit 0
fi

# missing PACKAGE...: those that are not installed, each after a blank
missing() {
    for package in "$@"; do
        # one line for every architecture that has it
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf ' %s' "$package"
    done
}

must=$(missing $needed)
wanted="$must$(missing $useful)"
[ -n "$wanted" ] || exit 0
install="apt-get install -y --no-install-recommends$wanted"

# A package source that fails is no reason to stop: the lists may be good enough.
script="export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo 'apt-get update failed; trying with the lists there are' >&2
$install >/dev/null"

if [ "$(id -u)" = 0 ]; then
    echo "installing:$wanted" >&2
    sh -c "$script"
elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    echo "installing through sudo:$wanted" >&2
    sudo sh -c "$script"
else
    echo "packages are missing; as root, run:" >&2
    echo "    apt-get update && $install" >&2
    [ -z "$must" ] || exit 1
    echo "going on: the tests that need them are skipped" >&2
fi
