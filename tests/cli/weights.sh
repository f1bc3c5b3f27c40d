#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The list of published weights, weights/fetch, and the programs' look into the cache. No network:
# files come from file:// or from a stand-in for curl.
. "$(dirname "$0")/common.sh"
fetch=$root/weights/fetch
classify=$apps/classify
shipped=$root/weights/swin_nano_objects.safetensors
png=$pictures/png_rgb.png
tab=$(printf '\t')
newline='
'
FETCH_DELAY=0
export FETCH_DELAY
cd "$tmp"

# ---- the list ------------------------------------------------------------------------------------
manifest=$root/weights/manifest.tsv
"$apps/info" | awk '/^  / { print $1, $3, $5 }' >variants
sed 1d "$manifest" >rows
is 'ten columns everywhere' "$(awk -F"$tab" 'NF != 10 { print NR }' "$manifest")" ''
is 'no empty field' "$(awk -F"$tab" '{ for (i = 1; i <= NF; i++) if ($i == "") print NR }' "$manifest")" ''
is 'no name twice' "$(cut -f1 rows | sort | uniq -d)" ''
is 'no file twice' "$(cut -f3 rows | grep -vx -- - | sort | uniq -d)" ''
is 'every variant with a published classifier has a row (weights/manifest.tsv)' "$(
    awk 'NR == FNR { row[$1] = 1; next } $2 > 0 && $3 ~ /^https:/ && !($1 in row) { print $1 }' \
        rows variants)" ''
is 'the model of every row exists' "$(
    awk 'NR == FNR { known[$1] = 1; next }
        { plain = $1; sub(/[.].*/, "", plain) }
        !($1 in known) && !(plain in known) { print $1 }' variants rows)" ''
is 'addresses are those of the variants' "$(
    awk -F'[\t ]' 'NR == FNR { where[$1] = $3; next }
        ($1 in where) && $2 != "shipped" && index($2, where[$1]) != 1 { print $1 }' \
        variants rows)" ''
is 'files are named after their models, with an ending that the programs look for' "$(
    awk -F"$tab" '
        $3 != "-" && $2 != "shipped" {
            ending = substr($3, length($1) + 1)
            if (index($3, $1) != 1 || ending !~ /^[.](safetensors|pth|pth[.]tar|pt|bin|ckpt)$/) print $1
        }' rows)" ''
cut -f4 rows | sort -u | while read -r naming; do
    grep -qF "{.name = \"$naming\"" "$root"/src/backbones/*.c || echo "$naming"
done >unknown
is 'namings are those of the backbones' "$(cat unknown)" ''
is 'accuracies, sizes and digests are such' "$(
    awk -F"$tab" '($6 == "-") != ($7 == "-") || $7 !~ /^(-|[0-9]+[.][0-9]+)$/ ||
        $9 !~ /^(-|[0-9]+)$/ || $10 !~ /^(-|[0-9a-f]+)$/ { print $1 }' rows)" ''
line=$(grep "^$nano$tab" rows)
is 'size of the shipped weights' "$(echo "$line" | cut -f9)" "$(($(wc -c <"$shipped")))"
is 'digest of the shipped weights' "$(echo "$line" | cut -f10)" "$(sha256sum <"$shipped" | cut -d' ' -f1)"

# ---- fetch: usage --------------------------------------------------------------------------------
works 'fetch --help' '^Usage: fetch' "$fetch" --help
works 'fetch --list' '^swin_tiny_patch4_window7_224 .*MIT .*81.2' "$fetch" --list
works 'fetch --list TEXT' '^nat_mini ' "$fetch" --list nat_mini
is '--list TEXT shows only these' "$(sed 1d out | grep -vc nat_mini || true)" 0
fails '--list of nothing' "no model has 'zzz'" "$fetch" --list zzz
if [ -c /dev/full ]; then
    for what in --list "$nano" --help; do
        code=0
        "$fetch" $what 2>err >/dev/full || code=$?
        is "a full disk: $what" "$code $(wc -l <err) $(grep -c 'write' err)" '1 1 1'
    done
fi
misused 'no name' 'no model named' "$fetch"
misused 'an empty name' 'no model named' "$fetch" ''
misused 'an option that there is not' "unrecognized option '--nonsense'" "$fetch" --nonsense
misused '--dir without a folder' '--dir: want a folder' "$fetch" --dir
fails 'an unknown name' "no model 'swin_tny_patch4_window7_224'.* near it: swin_tiny_patch4_window7_224," \
    "$fetch" swin_tny_patch4_window7_224
fails 'a part of a name' 'near it: .*nat_mini' "$fetch" nat_min
fails 'a path as a name' 'no model' "$fetch" ../../etc/passwd
works 'weights that ship' "/weights/swin_nano_objects.safetensors$" "$fetch" $nano
fails 'weights behind links on a page' 'van_b5: published behind links on https:.*van_b5.pth' \
    "$fetch" van_b5
fails 'no list' 'nowhere.tsv: cannot read' env VERTEBRA_MANIFEST=nowhere.tsv "$fetch" nat_mini
mkdir bare
for tool in sh awk sed cat cut dirname env sha256sum; do
    ln -s "$(command -v $tool)" bare/
done
fails 'no curl' 'curl is not installed .*apt-get install' env PATH="$tmp/bare" "$fetch" nat_mini

if ! command -v curl >/dev/null; then
    skip 'downloads' 'curl is not installed'
    finish
    exit
fi

# ---- fetch: from files ---------------------------------------------------------------------------
bytes=$(($(wc -c <"$shipped")))
digest=$(sha256sum <"$shipped" | cut -d' ' -f1)
web=file://$tmp/web
mkdir web
cp "$shipped" web/w.safetensors
printf '<!DOCTYPE html><html></html>' >web/page.pth
echo 'Too many requests' >web/words.pth
head -c 10000 "$shipped" >web/short.pth
printf 'PK\003\004 as torch.save begins' >web/zip.pth
printf '\200\002\212 as it began earlier' >web/pickle.pth
# row TAG URL SIZE SHA256: a line of our own list
row() {
    printf '%s\t%s\t%s\ttimm\tMIT\ttop-1\t1.0\tus\t%s\t%s\n' \
        "$nano.$1" "$2" "$nano.$1.safetensors" "$3" "$4"
}
{
    head -n 1 "$manifest"
    row known "$web/w.safetensors" "$bytes" "$digest"
    row first "$web/w.safetensors" - -
    row prefix "$web/w.safetensors" - "$(echo "$digest" | cut -c1-8)"
    row hash "$web/w.safetensors" "$bytes" "$(echo "$digest" | tr 0-9 1-90)"
    row size "$web/w.safetensors" $((bytes + 1)) -
    row huge "$web/w.safetensors" 9000000000000000 -
    row gone "$web/nowhere" - -
    row page "$web/page.pth" - -
    row words "$web/words.pth" - -
    row short "$web/short.pth" - -
    row zip "$web/zip.pth" - -
    row pickle "$web/pickle.pth" - -
    row closed http://127.0.0.1:1/w - -
    row host https://nowhere.invalid/w - -
} >list.tsv
VERTEBRA_MANIFEST=$tmp/list.tsv
export VERTEBRA_MANIFEST
cache=$VERTEBRA_CACHE/weights

# file NAME: where its weights belong
file() {
    echo "$cache/$nano.$1.safetensors"
}
works 'a download' "^$(file known)$" "$fetch" $nano.known
same 'it is the file' "$(file known)" "$shipped"
works 'a second time' "^$(file known)$" "$fetch" $nano.known
(cd "$cache" && sha256sum -c --quiet ./*.sha256) >out 2>err && ok || bad 'the record' 'sha256sum -c'
works 'the first digits of a digest are enough' prefix "$fetch" $nano.prefix
works 'neither size nor digest known' first "$fetch" $nano.first
printf x | dd of="$(file first)" bs=1 seek=1000 conv=notrunc 2>/dev/null
fails 'the file was changed since' 'first.safetensors is not what was published: its SHA-256 .*delete' \
    "$fetch" $nano.first
fails 'a wrong digest' 'wrong content: its SHA-256 is .* instead of .*thrown away' "$fetch" $nano.hash
fails 'a wrong size' "wrong content: it has $bytes bytes instead of $((bytes + 1))" "$fetch" $nano.size
fails 'no room' 'has room for .* kB, and .* are missing' "$fetch" $nano.huge
fails 'a web page' 'it is a web page, not weights' "$fetch" $nano.page
fails 'a text' 'wrong content: it is no checkpoint .*thrown away' "$fetch" $nano.words
fails 'a cut file' 'wrong content: its header is longer than the file' "$fetch" $nano.short
works 'a zip archive' zip "$fetch" $nano.zip
works 'a pickle' pickle "$fetch" $nano.pickle
fails 'no such file' 'nowhere: there is no such file' "$fetch" $nano.gone
fails 'nobody answers' '127.0.0.1:1/w: no connection' "$fetch" $nano.closed
fails 'no such host' 'the host is not found' "$fetch" $nano.host
is 'failures leave no weights' "$(ls "$cache" | grep -E 'hash|size|huge|page|words|short|gone|closed|host' |
    grep -v '[.]lock$' || true)" ''
works '--dir' "^$tmp/there/$nano.known.safetensors$" "$fetch" --dir "$tmp/there" $nano.known
works 'a folder with a blank' 'a folder/' "$fetch" --dir="$tmp/a folder" $nano.known
check 'one of two fails' 1 'nowhere' "$nano.known" "$fetch" $nano.gone $nano.known
fails 'a file as cache' 'cannot write to the folder' "$fetch" --dir "$png" $nano.known
works '$XDG_CACHE_HOME' "^$tmp/xdg/vertebra/weights/" \
    env -u VERTEBRA_CACHE XDG_CACHE_HOME="$tmp/xdg" "$fetch" $nano.known
works '~/.cache' "^$tmp/home/.cache/vertebra/weights/" \
    env -u VERTEBRA_CACHE -u XDG_CACHE_HOME HOME="$tmp/home" "$fetch" $nano.known

# ---- fetch: taking up again ----------------------------------------------------------------------
rm -rf "$cache" && mkdir -p "$cache"
head -c 1000000 "$shipped" >"$(file known).part"
works 'a cut file' known "$fetch" $nano.known
same 'goes on to the whole' "$(file known)" "$shipped"
absent 'and leaves no part' "$cache"/*.part "$cache"/*.lock "$cache"/*.url
rm "$(file known)"*
head -c 1000000 /dev/zero >"$(file known).part"
works 'the beginning of another file' known "$fetch" $nano.known
same 'is thrown away' "$(file known)" "$shipped"
head -c 1000000 /dev/zero >"$(file first).part"
works 'the beginning of another file, of which nothing is known' first "$fetch" $nano.first
same 'is thrown away too' "$(file first)" "$shipped"
rm "$(file known)"*
cp "$shipped" "$(file known).part"
works 'a part that is complete' known "$fetch" $nano.known
same 'is the file' "$(file known)" "$shipped"
rm "$(file known)"*
cat "$shipped" "$png" >"$(file known).part"
works 'a part that is too long' known "$fetch" $nano.known
same 'is loaded anew' "$(file known)" "$shipped"

# ---- fetch: from a server ------------------------------------------------------------------------
# server: starts one for the folder `web` and sets $address; fails where there is none
server() {
    busybox --list 2>/dev/null | grep -qx httpd || return 1
    port=$((20000 + $$ % 20000))
    for port in $port $((port + 1)) $((port + 2)); do
        timeout 120 busybox httpd -f -p 127.0.0.1:$port -h web >httpd.log 2>&1 &
        server=$!
        address=http://127.0.0.1:$port
        for wait in 1 2 3 4 5 6 7 8 9 10; do
            kill -0 $server 2>/dev/null || break # somebody has that port
            curl -sf -o /dev/null "$address/page.pth" && return 0
            sleep 0.5
        done
    done
    return 1
}
if server; then
    mkdir web/cgi-bin
    printf '#!/bin/sh\nprintf "Status: 302 Found\\r\\nLocation: /w.safetensors\\r\\n\\r\\n"\n' \
        >web/cgi-bin/moved
    printf '#!/bin/sh\nprintf "Status: 302 Found\\r\\nLocation: /cgi-bin/round\\r\\n\\r\\n"\n' \
        >web/cgi-bin/round
    printf '#!/bin/sh\nprintf "Content-Length: %s\\r\\n\\r\\n"\ncat ../w.safetensors\n' "$bytes" \
        >web/cgi-bin/whole
    chmod +x web/cgi-bin/*
    {
        head -n 1 "$manifest"
        row served "$address/w.safetensors" "$bytes" "$digest"
        row moved "$address/cgi-bin/moved" "$bytes" "$digest"
        row round "$address/cgi-bin/round" "$bytes" "$digest"
        row whole "$address/cgi-bin/whole" "$bytes" "$digest"
        row missing "$address/nowhere" "$bytes" "$digest"
        row other "$address/w.safetensors" "$bytes" "$(echo "$digest" | tr 0-9 1-90)"
        row longer "$address/w.safetensors" $((bytes + 1)) -
        row login "$address/page.pth" - -
        row tagged "$address/w.safetensors" - -
    } >served.tsv
    VERTEBRA_MANIFEST=$tmp/served.tsv
    rm -rf "$cache" && mkdir -p "$cache"
    works 'a server' "^$(file served)$" "$fetch" $nano.served
    same 'a server: the file' "$(file served)" "$shipped"
    rm "$(file served)"*
    is 'it can go on' \
        "$(curl -s -o ranged -w '%{http_code}' -r 10-19 "$address/w.safetensors") $(wc -c <ranged)" '206 10'
    head -c 1000000 "$shipped" >"$(file served).part"
    works 'a server that goes on' served "$fetch" $nano.served
    same 'a server that goes on: the file' "$(file served)" "$shipped"
    rm "$(file served)"*
    head -c 1000000 /dev/zero >"$(file served).part"
    works 'the beginning of another file, from a server' served "$fetch" $nano.served
    same 'it is thrown away' "$(file served)" "$shipped"
    # This server goes on whatever If-Range says. Nothing is known of the file but its tag.
    for record in "$address/w.safetensors older" "$address/other current" 'none'; do
        rm -f "$(file tagged)"*
        head -c 1000000 /dev/zero >"$(file tagged).part"
        curl -sI "$address/w.safetensors" | sed 's/^ETag: ".*"/ETag: "older"/' >headers
        [ "${record#* }" = older ] || curl -sI "$address/w.safetensors" >headers
        [ "$record" = none ] || { echo "${record% *}" && cat headers; } >"$(file tagged).part.url"
        works "a part of another file: $record" tagged "$fetch" $nano.tagged
        same "a part of another file: $record: the file" "$(file tagged)" "$shipped"
    done
    head -c 1000000 "$shipped" >"$(file whole).part"
    works 'a server that always sends all' whole "$fetch" $nano.whole
    same 'a server that always sends all: the file' "$(file whole)" "$shipped"
    works 'a server that sends elsewhere' moved "$fetch" $nano.moved
    same 'a server that sends elsewhere: the file' "$(file moved)" "$shipped"
    fails 'a server that sends round' 'from one address to the next' "$fetch" $nano.round
    fails 'a server without the file' 'not there any more \(HTTP 404\)' "$fetch" $nano.missing
    fails 'a server with another file' 'its SHA-256 is .* thrown away' "$fetch" $nano.other
    fails 'a server with a shorter file' 'has .* bytes instead of .* thrown away' "$fetch" $nano.longer
    fails 'a server with a page' 'it is a web page, not weights' "$fetch" $nano.login
    is 'failures leave nothing' "$(ls "$cache" | grep -E 'round|missing|other|longer|login' || true)" ''
    kill $server
    wait $server 2>/dev/null || :
    VERTEBRA_MANIFEST=$tmp/list.tsv
else
    skip 'a server' 'busybox is not installed, or has no httpd'
fi

# A stand-in for curl: each call takes the next line of the file `plan`: HTTP CODE BYTES TAG, meaning
# that so many bytes are appended before it ends so. It writes to `asked` from where it went on, and
# for which tag.
mkdir bin
cat >bin/curl <<'SH'
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    --output) out=$2 ;;
    --header) range=${2#If-Range: } ;;
    esac
    shift
done
read -r http code bytes tag <plan
sed -i 1d plan
have=0
[ ! -f "$out" ] || have=$(wc -c <"$out")
echo "$have $range" >>asked
printf 'HTTP/1.1 %s\r\n%s\r\n\r\n' "$http" "${tag:+ETag: $tag}"
[ "$bytes" = 0 ] || tail -c +$((have + 1)) web/w.safetensors | head -c "$bytes" >>"$out"
[ "$code" != slow ] || exec sleep 60
printf '%s said the stand-in' "$http" >&2
exit "$code"
SH
chmod +x bin/curl
PATH=$tmp/bin:$PATH
# plan LINE...
plan() {
    rm -rf "$cache" asked
    printf '%s\n' "$@" >plan
}
plan '206 18 1000' '000 7 0' '503 22 0' '206 0 99999999'
works 'broken three times' known "$fetch" $nano.known
same 'each attempt goes on' "$(file known)" "$shipped"
plan '200 18 1000' '206 18 1000' '206 56 1000' '206 18 1000'
fails 'broken each time' 'no connection, or it broke: said the stand-in; what has arrived is kept' \
    "$fetch" $nano.known
is 'what has arrived' "$(($(wc -c <"$(file known).part")))" 4000
absent 'is not taken for weights' "$(file known)"
plan '416 22 0' '200 0 99999999'
works 'a server that cannot go on' known "$fetch" $nano.known
plan '404 22 0'
fails 'HTTP 404' 'not there any more \(HTTP 404\)' "$fetch" $nano.known
plan '403 22 0'
fails 'HTTP 403' 'refuses \(HTTP 403\)' "$fetch" $nano.known
plan '500 22 0' '500 22 0' '500 22 0' '500 22 0'
fails 'HTTP 500' 'the server fails \(HTTP 500\)' "$fetch" $nano.known
plan '200 23 0'
fails 'a full disk' 'cannot write .*is the disk full' "$fetch" $nano.known
plan '000 60 0'
fails 'an untrusted certificate' 'certificate' "$fetch" $nano.known
plan '200 0 0'
fails 'nothing' "$nano.first: .*the file is empty" "$fetch" $nano.first
# Nothing is known of `first` but the server's tag.
plan '200 18 1000 "one"' '206 0 99999999 "one"'
works 'broken once, with a tag' first "$fetch" $nano.first
is 'goes on with the file of this tag' "$(cat asked)" "0 $newline"'1000 "one"'
same 'to the whole' "$(file first)" "$shipped"
for tag in '' 'W/"one"'; do
    plan "200 18 1000 $tag" "200 0 99999999 $tag"
    works "broken once, with no strong tag ($tag)" first "$fetch" $nano.first
    is "starts anew ($tag)" "$(cat asked)" "0 ${newline}0 "
    same "and has the whole ($tag)" "$(file first)" "$shipped"
done
for answer in '200 33 0' '206 0 99999999'; do # heeds If-Range, or not
    plan '200 slow 1000 "one"'
    timeout -s INT 1 "$fetch" $nano.first >out 2>err || :
    printf x | dd of="$(file first).part" conv=notrunc 2>/dev/null # as the older file began
    printf '%s\n' "$answer \"two\"" '200 0 99999999 "two"' >plan
    works "a newer file on the server ($answer)" first "$fetch" $nano.first
    is "starts anew ($answer)" "$(cat asked)" "0 $newline"'1000 "one"'"${newline}0 "
    same "and is not mixed ($answer)" "$(file first)" "$shipped"
done
for signal in INT TERM; do
    plan '200 slow 5000'
    # a program in the background ignores SIGINT unless it was started with it on
    timeout -s $signal 1 "$fetch" $nano.known >out 2>err && code=0 || code=$?
    is "stopped by $signal" "$code $(cat err)" \
        '124 fetch: stopped; what has arrived is kept, the same command goes on with it'
    absent "stopped by $signal: no weights" "$(file known)"
    is "stopped by $signal: the part is kept" "$(($(wc -c <"$(file known).part")))" 5000
done
PATH=${PATH#*:}

# ---- the programs look into the cache ------------------------------------------------------------
fails 'nothing fetched yet' "swin_tiny_patch4_window7_224: .*$cache; run: weights/fetch swin_tiny" \
    "$classify" --model swin_tiny_patch4_window7_224 "$png"
fails 'a tag of another file' "run: weights/fetch $nano.known" "$classify" --model $nano.known "$png"
fails 'a model without published weights' 'davit_large: no weights of it are published' \
    "$classify" --model davit_large "$png"
fails 'an unknown model' "nonsense: there is no such model" "$classify" --model nonsense "$png"
fails 'no cache at all' 'no folder of fetched weights' \
    env -u VERTEBRA_CACHE -u XDG_CACHE_HOME -u HOME "$classify" --model nat_mini "$png"
works 'the shipped model by its name' '^  ' "$classify" --model $nano --size 64 "$png"
works 'fetch what it said' known "$fetch" $nano.known
works 'classify finds it' '^  ' "$classify" --model $nano.known --size 64 "$png"
cp out found
"$classify" --size 64 "$png" >default
same 'and it is that network' found default
works 'features finds it' 'f.C2.npy' "$apps/features" --model $nano.known --size 64 --out f "$png"
mv "$(file known)" "$cache/nat_mini.pth"
fails 'the file of a variant is found by its name' 'weights/nat_mini.pth: ' \
    "$classify" --model nat_mini "$png"

# ---- names of classes ----------------------------------------------------------------------------
classes=$root/datasets/imagenet/classes.tsv
is '1000 classes' "$(($(wc -l <"$classes")))" 1000
is 'in the order of their synsets' "$(cut -f1 "$classes" | grep -cE '^n[0-9]{8}$')" 1000
is 'the order that evaluate knows' "$(sed -n '/offsets\[/,/^};/p' "$root/apps/common/imagenet.c" |
    tr -cs 0-9 '\n' | grep -E '^[0-9]{7,8}$' | awk '{ printf "n%08d\n", $1 }' | sha256sum)" \
    "$(cut -f1 "$classes" | sha256sum)"
cut -f1 "$classes" | LC_ALL=C sort -c && ok || bad 'sorted' "$classes"
is 'no name twice' "$(cut -f2 "$classes" | sort | uniq -d)" ''
is 'three columns' "$(awk -F"$tab" 'NF != 3' "$classes")" ''
# Weights that are all zero give every class the same logit.
"$apps/info" --model $nano --keys | sed 's/[][,]//g' | awk '
    {
        n = 2
        shape = ""
        for (i = 2; i <= NF; i++) { n *= $i; shape = shape (i > 2 ? "," : "") $i }
        header = header sprintf("%s\"%s\":{\"dtype\":\"F16\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                                NR > 1 ? "," : "", $1, shape, at, at + n)
        at += n
    }
    END { print at; printf "{%s}", header }' >zero
{
    n=$(($(sed 1d zero | wc -c)))
    printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256 % 256)))\\$(printf %o $((n / 65536)))\\0\\0\\0\\0\\0"
    sed 1d zero
    head -c "$(head -n 1 zero)" /dev/zero
} >"$cache/$nano.zero.safetensors"
works 'ImageNet names for 1000 classes' '^    0.10 %  goldfish$' \
    "$classify" --model $nano.zero --size 64 "$png"
seq 1000 >numbers
works '--labels comes first' '^    0.10 %  2$' \
    "$classify" --model $nano.zero --size 64 --labels numbers "$png"
works 'made-up weights have none' 'class 135$' "$classify" $golden "$png"

finish
