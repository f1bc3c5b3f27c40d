#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every public header compiles alone, as C11 and as C++17, without a warning. Run from the root of
# the repository; CC and CXX choose the compilers.
failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
for header in $(cd include && find vertebra* -name '*.h' | sort); do
    # twice: the guards hold
    printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' "$header" "$header" \
        > "$folder/one.c"
    cp "$folder/one.c" "$folder/one.cc"
    for command in "${CC:-gcc} -std=c11 -Wstrict-prototypes $folder/one.c" \
                   "${CXX:-g++} -std=c++17 -Wextra-semi $folder/one.cc"; do
        $command -Iinclude -fsyntax-only -pedantic -Wall -Wextra -Wshadow -Wconversion -Werror || {
            echo "include/$header does not compile alone: $command"
            failed=1
        }
    done
    grep -q '__cplusplus' "include/$header" || grep -q 'vertebra/' "include/$header" || {
        echo "include/$header has no extern \"C\""
        failed=1
    }
    head -n 1 "include/$header" | grep -q 'SPDX-License-Identifier' || {
        echo "include/$header does not begin with its licence"
        failed=1
    }
done
[ "$failed" = 0 ] && echo "every public header compiles alone"
exit "$failed"
