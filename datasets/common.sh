# SPDX-License-Identifier: Apache-2.0
# What the `prepare` scripts of the data sets share; each sets $usage and sources it.
#   A script works in OUT/.incoming, checks, and moves what is whole to its place: it can be stopped
#   at any time and started again, and a second run only counts. A failure leaves nothing there that
#   the next run could take for its own.
set -eu
LC_ALL=C
export LC_ALL
program=${0%/*}
program=${program##*/}/prepare
incoming=
kit=

complain() {
    printf '%s: %s\n' "$program" "$1" >&2
    if [ -n "$incoming" ]; then
        rm -rf "$incoming" ${kit:+"$kit"} 2>/dev/null || :
        rmdir "$out" 2>/dev/null || : # not empty
    fi
    exit 1
}
misused() {
    printf '%s: %s\n%s --help shows what it takes\n' "$program" "$1" "$program" >&2
    exit 2
}

# options DEFAULT ARGUMENT...: sets $link and $expect (how many pictures there must be) and $rest,
# the number of options to shift away
options() {
    link=no expect=$1 rest=0
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) printf '%s\n' "$usage" && exit 0 ;;
        --link) link=yes ;;
        --expect=*[!0-9]* | --expect=) misused "--expect: want a number" ;;
        --expect=*) expect=${1#--expect=} ;;
        --) rest=$((rest + 1)) && return 0 ;;
        -*) misused "unrecognized option '$1'" ;;
        *) return 0 ;;
        esac
        rest=$((rest + 1))
        shift
    done
}

tool() {
    command -v "$1" >/dev/null 2>&1 || complain "$1 is not installed (apt-get install $2)"
}

# absolute PATH: of a file or folder that exists
absolute() {
    [ -e "$1" ] || complain "$1: no such file or folder"
    [ -d "$1" ] && (cd "$1" && pwd) || echo "$(cd "$(dirname "$1")" && pwd)/${1##*/}"
}

# begin OUT: makes the folder, $out, and $incoming
begin() {
    mkdir -p "$1" 2>/dev/null || complain "$1: cannot make this folder"
    out=$(absolute "$1")
    incoming=$out/.incoming
    mkdir -p "$incoming" 2>/dev/null || complain "$out: cannot write to this folder"
    trap 'printf "%s: stopped; the same command goes on\n" "$program" >&2; exit 130' INT TERM HUP
}

# unreadable ARCHIVE LOG: the first words of the program that failed; tar's begin with an empty line,
# unzip's with [ARCHIVE]
unreadable() {
    complain "$1: $(sed -n 's/^ *\([^[ ].*\)/\1/p' "$2" | head -n 1): is it complete?"
}

# unpack ARCHIVE [TAR OPTION... | MEMBER...]: into $incoming, leaving what is there alone. A file
# that was being written when the last run was stopped is newer than that run's start: an archive's
# files get their own dates when they are whole.
unpack() {
    archive=$1
    shift
    started=$incoming/.started
    [ ! -e "$started" ] ||
        find "$incoming" -type f -newer "$started" ! -name .started -exec rm -f {} +
    : >"$started"
    sleep 0.01 # dates may be no finer
    case $archive in
    *.zip)
        tool unzip unzip
        unzip -q -n "$archive" "$@" -d "$incoming" >/dev/null 2>"$incoming/.log" ||
            unreadable "$archive" "$incoming/.log"
        ;;
    *)
        tar -xf "$archive" -C "$incoming" --skip-old-files --no-same-owner "$@" \
            2>"$incoming/.log" || unreadable "$archive" "$incoming/.log"
        ;;
    esac
}

# place FOLDER TO: moves the unpacked folder to its place, or links or copies it from where the user
# has it
place() {
    mkdir -p "${2%/*}"
    if [ -e "$2" ] || [ -L "$2" ]; then
        return 0
    elif [ $link = yes ]; then
        ln -s "$1" "$2"
    elif [ "${1#"$incoming"/}" != "$1" ]; then
        mv "$1" "$2"
    else
        rm -rf "$2.partial" && cp -r "$1" "$2.partial" 2>/dev/null && mv "$2.partial" "$2" || {
            rm -rf "$2.partial"
            complain "$2: cannot copy $1: is the disk full?"
        }
    fi
}

# count FOLDER ENDING: files below it, through links
count() {
    find -L "$1" -name .incoming -prune -o -type f -iname "*.$2" -print 2>/dev/null | wc -l | tr -d ' '
}

# origin PATH SOURCE: how messages call it: what was unpacked by its archive
origin() {
    case $1 in
    "$incoming"/*) echo "$2" ;;
    *) echo "$1" ;;
    esac
}

# verify WHAT HAVE WANT
verify() {
    [ "$2" = "$3" ] || complain "$1: $2 instead of $3 (--expect=$2 accepts it)"
}

end() {
    rm -rf "$incoming"
    echo "$1"
}
