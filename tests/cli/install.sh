#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make install into a folder, and a stranger's program built against what lies there.
. "$(dirname "$0")/common.sh"
png=$pictures/png_rgb.png

if [ ! -f "$root/weights/swin_nano_objects.safetensors" ]; then
    echo "weights/swin_nano_objects.safetensors is not there, so there is nothing to install yet"
    exit 77
fi
# The CUDA side takes minutes to build: it is only installed where it is there already.
cuda=$root/build/release/libvertebra_cuda.so.0
install() {
    code=0
    make --no-print-directory $([ -e "$cuda" ] || echo CUDA=0) \
        install DESTDIR="$tmp/root" PREFIX=/usr >"$tmp/out" 2>"$tmp/err" || code=$?
}
install
if [ "$code" != 0 ]; then
    bad 'make install' "exit code $code"
    finish
    exit 1
fi
ok
install
is 'make install a second time' "$code" 0

usr=$tmp/root/usr
for file in include/vertebra/vertebra.h include/vertebra/image.h include/vertebra/layers/mlp.h \
    include/vertebra_cuda.h \
    lib/libvertebra.a lib/libvertebra.so lib/libvertebra.so.0 lib/libvertebra_image.a \
    lib/libvertebra_image.so lib/pkgconfig/vertebra.pc bin/vertebra-classify bin/vertebra-info \
    bin/vertebra-fetch share/vertebra/manifest.tsv share/vertebra/classes.tsv \
    share/vertebra/swin_nano_objects.safetensors; do
    holds "installed: $file" test -r "$usr/$file"
done
if [ -e "$cuda" ]; then
    holds 'installed: the CUDA side' test -r "$usr/lib/libvertebra_cuda.so.0"
fi
works 'the installed fetch finds its list' '^nat_mini ' "$usr/bin/vertebra-fetch" --list
fails 'an installed program names it' 'nat_mini: .*run: vertebra-fetch nat_mini' \
    "$usr/bin/vertebra-classify" --model nat_mini "$png"
works 'the installed shipped weights' '/share/vertebra/swin_nano_objects.safetensors$' \
    "$usr/bin/vertebra-fetch" $nano
holds 'the weights carry their licence' ls "$usr"/share/vertebra/LICENSE.*
is 'only headers in include' "$(find "$usr/include" -type f ! -name '*.h')" ''
if grep -r "$root" "$usr/lib/pkgconfig" "$usr/include" >/dev/null; then
    bad 'no path of the source tree' "$(grep -rl "$root" "$usr/lib/pkgconfig" "$usr/include")"
else
    ok
fi

# The core library needs neither libpng nor libjpeg; only vt_ names are exported.
needs() {
    readelf -d "$usr/lib/$1" | sed -n 's/.*NEEDED.*\[\(lib[a-z]*\).*/\1/p' | sort | tr '\n' ' '
}
case $(needs libvertebra.so.0) in
*png* | *jpeg*) bad 'what libvertebra needs' "$(needs libvertebra.so.0)" ;;
*) ok ;;
esac
for library in libvertebra libvertebra_image; do
    names=$(nm -D --defined-only "$usr/lib/$library.so.0" | awk '$2 ~ /[A-Z]/ {print $3}')
    is "$library exports only vt_ names" "$(echo "$names" | grep -v '^vt_' || true)" ''
    names=$(nm -g --defined-only "$usr/lib/$library.a" | awk 'NF == 3 {print $3}')
    is "$library.a defines only vt_ names" "$(echo "$names" | grep -v '^vt_' || true)" ''
    names=$(readelf -d "$usr/lib/$library.so.0" | sed -n 's/.*SONAME.*\[\(.*\)\].*/\1/p')
    is "$library.so.0 names itself" "$names" "$library.so.0"
done

cd "$tmp"
cat >program.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <vertebra/image.h>
#include <vertebra/vertebra.h>
int main(int argc, char **argv)
{
    vt_error error = {0};
    vt_context *context = NULL;
    vt_model *model = NULL;
    vt_session *session = NULL;
    vt_image image = {0};
    vt_tensor logits;
    vt_class_score top;
    float *in = malloc(3 * 224 * 224 * sizeof *in);
    int failed = argc != 3 || !in || vt_context_create(&context, NULL, &error) ||
                 vt_model_load(&model, context, NULL, argv[1], NULL, &error) ||
                 vt_session_create(&session, model, NULL, &error) ||
                 vt_image_load(&image, context, argv[2], NULL, &error);
    if (!failed) {
        vt_pixels pixels = vt_image_pixels(&image);
        vt_tensor input = vt_tensor_nchw(in, VT_F32, 1, 3, 224, 224);
        failed = vt_preprocess_run(context, vt_model_preprocess(model), &pixels, in, &error) ||
                 vt_session_forward(session, &input, &error) ||
                 vt_session_output(session, "logits", &logits, &error) ||
                 vt_classify_top(logits.data, (int)logits.c, 1, &top, NULL, &error);
        vt_image_clear(&image, context);
    }
    failed ? (void)fprintf(stderr, "%s\n", error.message)
           : (void)printf("%s\n", vt_model_label(model, top.index));
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    free(in);
    return failed != 0;
}
C
cat >core.c <<'C'
#include <stdio.h>
#include <vertebra/vertebra.h>
int main(void)
{
    vt_context *context = NULL;
    return vt_context_create(&context, NULL, NULL) || puts(vt_version()) < 0 ||
           (vt_context_destroy(&context), 0);
}
C
weights=$usr/share/vertebra/swin_nano_objects.safetensors
label=$("$usr/bin/vertebra-classify" --topk 1 "$png" | sed -n 's/.*%  //p')
cc="${CC:-gcc} -std=c11 -Wall -Wextra -Wpedantic -Werror -I$usr/include"
works 'build with the shared libraries' '' \
    $cc -o shared program.c -L"$usr/lib" -lvertebra_image -lvertebra
works 'run with the shared libraries' "^$label\$" \
    env LD_LIBRARY_PATH="$usr/lib" ./shared "$weights" "$png"
works 'build with the static libraries' '' \
    $cc -o static program.c "$usr/lib/libvertebra_image.a" "$usr/lib/libvertebra.a" \
    -lpng -ljpeg -ljansson -lz -lm -fopenmp
works 'run with the static libraries' "^$label\$" ./static "$weights" "$png"
works 'build with the core alone' '' $cc -o core core.c -L"$usr/lib" -lvertebra
works 'run with the core alone' '^[0-9]+\.[0-9]+\.[0-9]+$' env LD_LIBRARY_PATH="$usr/lib" ./core
if command -v g++ >/dev/null 2>&1; then
    cp core.c core.cc
    works 'build as C++' '' \
        g++ -std=c++11 -Wall -Wextra -Werror -I"$usr/include" \
        -o core core.cc -L"$usr/lib" -lvertebra
else
    skip 'build as C++' 'g++ is not installed'
fi
if command -v pkg-config >/dev/null 2>&1; then
    PKG_CONFIG_PATH=$usr/lib/pkgconfig
    PKG_CONFIG_SYSROOT_DIR=$tmp/root
    export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
    version=$(LD_LIBRARY_PATH=$usr/lib ./core)
    works 'vertebra.pc: version' "^$version\$" \
        pkg-config --modversion vertebra
    # shellcheck disable=SC2046
    works 'vertebra.pc: build' '' \
        ${CC:-gcc} -o packaged program.c $(pkg-config --cflags --libs vertebra)
    # shellcheck disable=SC2046
    works 'vertebra.pc: static build' '' \
        ${CC:-gcc} -o packaged program.c $(pkg-config --cflags --libs-only-L vertebra) \
        -Wl,-Bstatic -lvertebra_image -lvertebra -Wl,-Bdynamic \
        $(sed -n 's/^Libs.private: //p' "$usr/lib/pkgconfig/vertebra.pc")
else
    skip 'vertebra.pc' 'pkg-config is not installed'
fi

# The installed programs find the installed weights, wherever the tree was moved to.
works 'an installed program' '%  [a-z]' "$usr/bin/vertebra-classify" "$png"
mv "$tmp/root" "$tmp/moved"
works 'a moved program' '%  [a-z]' "$tmp/moved/usr/bin/vertebra-classify" "$png"
works 'a moved program: models' 'swin_tiny' "$tmp/moved/usr/bin/vertebra-info"
fails 'its messages carry its name' '^vertebra-classify: nowhere.png' \
    "$tmp/moved/usr/bin/vertebra-classify" nowhere.png
finish
