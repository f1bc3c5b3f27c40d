#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building (and, with "test", testing) needs and that are missing.
# As root it runs apt-get; otherwise it asks through sudo; without either it prints the line to run.
set -eu

build="gcc libc6-dev libpng-dev libjpeg62-turbo-dev zlib1g-dev libjansson-dev libstb-dev"
check="libcmocka-dev g++ valgrind gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
wanted="$build"
[ "${1:-build}" = test ] && wanted="$build $check"

command -v dpkg-query >/dev/null 2>&1 || {
    echo "bootstrap: this is no Debian; install what provides: $wanted" >&2
    exit 0
}
missing=""
for package in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "missing packages:$missing" >&2
install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $install >/dev/null
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
    sudo sh -c "apt-get update -qq && $install"
else
    echo "not allowed to install them; as root, run:  apt-get update && $install" >&2
    exit 1
fi
