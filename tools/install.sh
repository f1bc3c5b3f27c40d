#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD_FOLDER DESTDIR PREFIX: headers, libraries, programs, shipped weights, class
# names, vertebra.pc
set -eu
build=$1
root=$2$3
prefix=$3
version=$(sed -n 's/^#define VT_VERSION "\(.*\)"/\1/p' src/core/context.c)

mkdir -p "$root/include/vertebra/layers" "$root/lib/pkgconfig" "$root/bin" "$root/share/vertebra"
cp include/vertebra_cuda.h "$root/include/"
cp include/vertebra/*.h "$root/include/vertebra/"
cp include/vertebra/layers/*.h "$root/include/vertebra/layers/"
for name in libvertebra libvertebra_image; do
    cp "$build/$name.a" "$build/$name.so.0" "$root/lib/"
    ln -sf "$name.so.0" "$root/lib/$name.so"
done
if [ -e "$build/libvertebra_cuda.so.0" ]; then
    cp "$build/libvertebra_cuda.so.0" "$root/lib/"
fi
for app in apps/*.c; do
    name=$(basename "$app" .c)
    cp "$build/apps/$name" "$root/bin/vertebra-$name"
done
cp weights/*.safetensors weights/LICENSE.* weights/manifest.tsv "$root/share/vertebra/"
cp datasets/imagenet/classes.tsv datasets/imagenet/LICENSE.wordnet.txt "$root/share/vertebra/"
cp weights/fetch "$root/bin/vertebra-fetch"
cat >"$root/lib/pkgconfig/vertebra.pc" <<PC
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: vertebra
Description: hierarchical vision backbones from their published checkpoints
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lvertebra_image -lvertebra
Libs.private: -lpng -ljpeg -ljansson -lz -lm -fopenmp
PC
