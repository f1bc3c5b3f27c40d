#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same answers on another processor: cross-builds for 64-bit ARM with Debian's compiler, where
# warnings are errors, and runs the self-test and the picture code under qemu. The libraries are
# unpacked from Debian's arm64 packages below build/aarch64; nothing is installed and the system's
# list of architectures stays as it is. Exits with 77 where something for that is missing.
#   CASES=options   which golden cases selftest runs (default: --quick)
set -eu
cd "$(dirname "$0")/.."
target=aarch64-linux-gnu
work=$PWD/build/aarch64
sysroot=$work/sysroot
packages="libjansson-dev zlib1g-dev libpng-dev libjpeg62-turbo-dev libstb-dev"

skip() {
    echo "$*"
    exit 77
}

for tool in $target-gcc $target-ar qemu-aarch64 apt-get dpkg-deb; do
    command -v $tool >/dev/null 2>&1 || skip "$tool is not installed"
done
[ -e /usr/$target/lib/libgomp.so.1 ] || skip "no C library for $target (libc6-dev-arm64-cross)"

# apt for arm64 with lists and state of its own
arm64_apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
        -o APT::Sandbox::User="$(id -un)" -o Dir::State="$work/apt" \
        -o Dir::State::Lists="$work/apt/lists" -o Dir::State::status="$work/apt/status" \
        -o Dir::Cache="$work/apt/cache" -o APT::Update::Post-Invoke-Success::= \
        -o Acquire::Retries=2 "$@"
}

# Only the static libraries are kept: the programs then need nothing but the C library and OpenMP.
if [ ! -e "$sysroot/complete" ]; then
    rm -rf "$work/apt" "$sysroot"
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$sysroot"
    : >"$work/apt/status"
    arm64_apt update || echo "apt-get update failed; trying with the lists there are"
    # shellcheck disable=SC2086
    (cd "$work/apt" && arm64_apt download $packages) ||
        skip "cannot download the arm64 packages $packages"
    for package in "$work"/apt/*.deb; do
        dpkg-deb -x "$package" "$sysroot"
    done
    rm -f "$sysroot/usr/lib/$target"/*.so "$work"/apt/*.deb
    : >"$sysroot/complete"
fi

include=$sysroot/usr/include
make -j"$(nproc)" --no-print-directory CC=$target-gcc AR=$target-ar CONFIG=aarch64 \
    EXTRA_CFLAGS="-Werror -isystem $include -isystem $include/$target" \
    EXTRA_LDFLAGS="-L$sysroot/usr/lib/$target" \
    build/aarch64/apps/selftest build/aarch64/apps/classify

arm() {
    program=$1
    shift
    qemu-aarch64 -L /usr/$target "build/aarch64/apps/$program" "$@"
}

# Pictures: what enters the network has the same bits as here.
nano="--golden --model swin_nano_patch4_window7_224 --size 64 --threads 1"
out=$work/pictures
mkdir -p "$out"
passed=0
for picture in photo_420.jpg jpeg_cmyk.jpg exif_6.jpg png_rgb.png png_palette_alpha.png \
    bmp_24.bmp; do
    file=tests/fixtures/pictures/$picture
    # shellcheck disable=SC2086
    arm classify $nano --dump-input "$out/arm.npy" "$file" >"$out/arm.txt"
    if [ -x apps/classify ]; then
        # shellcheck disable=SC2086
        apps/classify $nano --isa portable --dump-input "$out/here.npy" "$file" >"$out/here.txt"
        cmp "$out/arm.npy" "$out/here.npy"
        cmp "$out/arm.txt" "$out/here.txt"
    fi
    passed=$((passed + 1))
done

# shellcheck disable=SC2086
arm selftest ${CASES:---quick} | tee "$out/selftest.txt"
passed=$((passed + $(grep -c 'pass$' "$out/selftest.txt")))
echo "$passed passed, 0 failed"
