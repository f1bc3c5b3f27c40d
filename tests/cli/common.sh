# SPDX-License-Identifier: Apache-2.0
# What the tests of the programs share; each sources it first and ends with `finish`.
#   APPS=folder   the programs to test (default apps): APPS=build/sanitize/apps sh tests/cli/info.sh
# Results of a program go to stdout, messages to stderr: a failure is exactly one line, wrong usage
# one line and a hint at --help, a success nothing.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
apps=${APPS:-apps}
case $apps in /*) ;; *) apps=$root/$apps ;; esac
pictures=$root/tests/fixtures/pictures
checkpoints=$root/tests/fixtures/checkpoints
nano=swin_nano_patch4_window7_224
# Small and quick: weights from a hash, an input of 64 x 64.
golden="--golden --model $nano --size 64 --threads 1"
OMP_WAIT_POLICY=passive # a loaded machine
LC_ALL=C
export OMP_WAIT_POLICY LC_ALL
unset VERTEBRA_WEIGHTS VERTEBRA_CUDA VERTEBRA_MANIFEST

tmp=$(mktemp -d)
VERTEBRA_CACHE=$tmp/cache # not what this user has fetched
export VERTEBRA_CACHE
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
passed=0
failed=0
skipped=0
code=0

ok() {
    passed=$((passed + 1))
}

# bad NAME REASON: counts a failure and shows what the last program said
bad() {
    failed=$((failed + 1))
    echo "FAIL  $1: $2"
    sed 's/^/      stdout: /' "$tmp/out" | head -n 8
    sed 's/^/      stderr: /' "$tmp/err" | head -n 20
}

skip() {
    skipped=$((skipped + 1))
    echo "skip  $1: $2"
}

# run COMMAND...: fills $tmp/out, $tmp/err and $code; a program that hangs ends with 124
run() {
    code=0
    timeout -k 10 120 "$@" >"$tmp/out" 2>"$tmp/err" || code=$?
}

# judge NAME CODE STDERR STDOUT: of what `run` left. STDERR and STDOUT are extended regular
# expressions of which some line must match; '' means that nothing was printed, '.*' anything.
judge() {
    lines=$(wc -l <"$tmp/err")
    case $2 in
    1) limit=1 ;;
    2) limit=2 ;;
    *) limit=99 ;;
    esac
    if [ "$code" != "$2" ]; then
        bad "$1" "exit code $code, want $2"
    elif [ -z "$3" ] && [ -s "$tmp/err" ]; then
        bad "$1" "want nothing on stderr"
    elif [ -n "$3" ] && ! grep -Eq -e "$3" "$tmp/err" && [ "$3" != '.*' ]; then
        bad "$1" "want on stderr: $3"
    elif [ "$lines" -gt "$limit" ]; then
        bad "$1" "$lines lines on stderr"
    elif [ -z "$4" ] && [ -s "$tmp/out" ]; then
        bad "$1" "want nothing on stdout"
    elif [ -n "$4" ] && ! grep -Eq -e "$4" "$tmp/out" && [ "$4" != '.*' ]; then
        bad "$1" "want on stdout: $4"
    else
        ok
    fi
}

# check NAME CODE STDERR STDOUT COMMAND...
check() {
    name=$1 want=$2 stderr=$3 stdout=$4
    shift 4
    run "$@"
    judge "$name" "$want" "$stderr" "$stdout"
}

# works NAME STDOUT COMMAND..., fails NAME STDERR COMMAND..., misused NAME STDERR COMMAND...
works() {
    name=$1 stdout=$2
    shift 2
    check "$name" 0 '' "$stdout" "$@"
}
fails() {
    name=$1 stderr=$2
    shift 2
    check "$name" 1 "$stderr" '' "$@"
}
misused() {
    name=$1 stderr=$2
    shift 2
    check "$name" 2 "$stderr" '' "$@"
}

# holds NAME COMMAND...: the command succeeds
holds() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then ok; else bad "$name" "$*"; fi
}

# is NAME GOT WANT: two texts are equal
is() {
    if [ "$2" = "$3" ]; then ok; else bad "$1" "got '$2', want '$3'"; fi
}

# absent NAME FILE...: none of the files exists (a pattern that matches nothing stands for itself)
absent() {
    name=$1
    shift
    for file in "$@"; do
        if [ -e "$file" ]; then
            bad "$name" "$file exists"
            return
        fi
    done
    ok
}

# usage PROGRAM: what every program does with wrong options
usage() {
    works "$1 --help" "^  $1" "$apps/$1" --help
    works "$1 -h" '^Usage: ' "$apps/$1" -h
    misused "$1 --nonsense" "unrecognized option '--nonsense'" "$apps/$1" --nonsense
    misused "$1 -y" "invalid option -- 'y'" "$apps/$1" -y
    misused "$1 --model without a name" "requires an argument" "$apps/$1" --model
    for threads in 0 -1 x 1025 1.5 '' ' 1' 99999999999999999999; do
        misused "$1 --threads '$threads'" '--threads .*: want 1 to 1024' \
            "$apps/$1" --threads "$threads"
    done
    for size in 0 5x x5 99999 -1 5X5 64x64x64 64x0 '' 1e3 99999999999999999999; do
        misused "$1 --size '$size'" '--size .*: want H or HxW' "$apps/$1" --size "$size"
    done
    misused "$1 --dtype int8" '--dtype int8: want f32 or bf16' "$apps/$1" --dtype int8
    misused "$1 --isa sse" '--isa sse: unknown' "$apps/$1" --isa sse
    misused "$1 --swin-rule x" '--swin-rule x: want pad, mm or timm' "$apps/$1" --swin-rule x
}

# devices PROGRAM ARGUMENT...: devices that there are not
devices() {
    program=$1
    shift
    run "$apps/$program" --device cuda "$@"
    if [ "$code" = 0 ]; then
        skip "$program --device cuda" 'this machine has such a device'
    else
        judge "$program --device cuda" 1 "device 'cuda'|CUDA|no GPU" ''
    fi
    fails "$program --device cuda without its library" \
        "device 'cuda': the CUDA side cannot be loaded .*use --device cpu" \
        env VERTEBRA_CUDA="$tmp/nowhere.so" "$apps/$program" --device cuda "$@"
    fails "$program --device cuda:x" "device 'cuda:x': want cuda or cuda:N" \
        "$apps/$program" --device cuda:x "$@"
    for device in gpu '' CPU 'cpu '; do
        fails "$program --device '$device'" "unknown device '$device': want 'cpu'" \
            "$apps/$program" --device "$device" "$@"
    done
}

# A checker of JSON made with the library that the programs use themselves:
#   json [PATH...] <FILE   every value of the input is valid; prints those at PATH, as top.0.label
build_json() {
    ${CC:-gcc} -x c -o "$tmp/json" - -ljansson <<'C'
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
    json_error_t error;
    int count = 0;
    for (json_t *value; (value = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, &error)); count++) {
        for (int i = 1; i < argc; i++) {
            json_t *at = value;
            char *path = strdup(argv[i]);
            for (char *key = strtok(path, "."); key; key = strtok(NULL, ".")) {
                at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key))
                                       : json_object_get(at, key);
            }
            if (!at) {
                return fprintf(stderr, "no %s\n", argv[i]), 1;
            }
            json_is_string(at) ? (void)puts(json_string_value(at))
                               : (json_dumpf(at, stdout, JSON_ENCODE_ANY), (void)putchar('\n'));
            free(path);
        }
        json_decref(value);
        int next; /* between two values there is a line end */
        while ((next = getchar()) == '\n') {
        }
        if (next == EOF) {
            return 0;
        }
        ungetc(next, stdin);
    }
    return fprintf(stderr, "value %d: %s\n", count, error.text), 1;
}
C
}

# json NAME PATH WANT COMMAND...: the command prints valid JSON that has WANT at PATH
json() {
    name=$1 path=$2 want=$3
    shift 3
    run "$@"
    if [ "$code" != 0 ]; then
        bad "$name" "exit code $code"
        return
    fi
    got=$("$tmp/json" "$path" <"$tmp/out" 2>&1) || got="no JSON: $got"
    is "$name" "$got" "$want"
}

# npy NAME FILE SHAPE: a float32 .npy of that shape, such as '2, 1000', with all its elements
npy() {
    if [ ! -f "$2" ]; then
        bad "$1" "$2 was not written"
        return
    fi
    magic=$(od -An -tx1 -N8 "$2" | tr -d ' ')
    length=$(od -An -tu2 -j8 -N2 "$2" | tr -d ' ')
    header=$(tail -c +11 "$2" | head -n 1 | sed 's/ *$//')
    elements=$(echo "$3" | sed 's/, */ * /g')
    is "$1: magic" "$magic" 934e554d50590100
    is "$1: header" "$header" "{'descr': '<f4', 'fortran_order': False, 'shape': ($3), }"
    is "$1: aligned" $(((length + 10) % 64)) 0
    is "$1: size" "$(($(wc -c <"$2")))" $((10 + length + 4 * ($elements)))
}

# same NAME FILE FILE, differ NAME FILE FILE
same() {
    if cmp "$2" "$3" >/dev/null 2>&1; then ok; else bad "$1" "$2 and $3 differ"; fi
}
differ() {
    if cmp "$2" "$3" >/dev/null 2>&1; then bad "$1" "$2 and $3 are the same"; else ok; fi
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

for program in "$apps/classify" "$apps/info"; do
    if [ ! -x "$program" ]; then
        echo "$program is not built"
        exit 1
    fi
done
