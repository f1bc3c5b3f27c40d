#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# evaluate, as strangers use it.
. "$(dirname "$0")/common.sh"
build_json
evaluate=$apps/evaluate
png=$pictures/png_rgb.png
jpeg=$pictures/photo_420.jpg
cd "$tmp"
# The golden network has 1000 classes, those of ImageNet.
mkdir -p val/n01440764 val/n01443537/below val/n15075141 empty one/class
cp "$png" val/n01440764/a.png
cp "$jpeg" val/n01440764/B.JPG
cp "$jpeg" val/n01443537/below/deep.jpeg
cp "$pictures/bmp_24.bmp" val/n01443537/z.BmP
cp "$pictures/ppm.ppm" val/n15075141/x.ppm
ln -s ../n01440764/a.png val/n15075141/link.png
echo hidden >val/n15075141/.hidden.jpg
mkdir val/.cache
echo notes >val/n15075141/notes.txt

# figures FILE: what must not depend on how it was run
figures() {
    sed -e '/^ "about": {/,/^ }/d' -e '/^ "speed": {/,/^ }/d' "$1"
}

# ---- usage ---------------------------------------------------------------------------------------
usage evaluate
devices evaluate $golden val
misused 'no folder' 'no folder given' "$evaluate"
misused 'two folders' 'give one folder' "$evaluate" val val
for number in 0 -1 x 1.5 ''; do
    misused "--batch '$number'" '--batch .*: want 1 to' "$evaluate" --batch "$number" val
    misused "--workers '$number'" '--workers .*: want 1 to' "$evaluate" --workers "$number" val
    misused "--limit '$number'" '--limit .*: want 1 to' "$evaluate" --limit "$number" val
done
for shard in 0/2 3/2 1 1/ /2 1/0 x/2 -1/2 1/2/3 ''; do
    misused "--shard '$shard'" '--shard .*: want I/N' "$evaluate" --shard "$shard" val
done
misused '--exif turn' '--exif turn: want apply or ignore' "$evaluate" --exif turn val
misused '--preprocess tpu' '--preprocess tpu: want cpu or gpu' "$evaluate" --preprocess tpu val
misused '--preprocess gpu without a GPU' "--preprocess gpu wants --device cuda, not 'cpu'" \
    "$evaluate" $golden --preprocess gpu val
misused '--merge alone' 'give the JSON files' "$evaluate" --merge
misused '--compare with one file' 'give two JSON files' "$evaluate" --compare all.json
fails '--shard auto outside a cluster' 'no variables of a Slurm array or of MPI' \
    env -u SLURM_ARRAY_TASK_ID -u SLURM_PROCID "$evaluate" --shard auto val
fails 'no such folder' 'nowhere: No such file' "$evaluate" $golden nowhere
fails 'a picture as folder' 'is not a folder' "$evaluate" $golden "$png"
fails 'an empty folder' 'empty: no pictures' "$evaluate" $golden empty
fails 'pictures without a class' 'those there lie in no class folder' \
    "$evaluate" $golden val/n01440764
fails 'nowhere to write JSON' 'no/r.json: cannot create' \
    "$evaluate" $golden --json no/r.json val
fails 'a folder as JSON' 'empty: is a folder' "$evaluate" $golden --json empty val
fails 'nowhere to write a report' 'no/report: cannot write a report there' \
    "$evaluate" $golden --report no/report val
for option in json csv report; do
    misused "--$option ''" "--$option: the name is empty" "$evaluate" $golden --$option '' val
done
misused 'CSV and JSON in one file' '--json q --csv q: two results cannot go to one place' \
    "$evaluate" $golden --csv q --json q val
misused 'CSV and JSON in one file, named twice' 'cannot go to one place' \
    "$evaluate" $golden --csv q --json "$PWD/./q" val
misused 'CSV and JSON in one file of a shard' 'cannot go to one place' \
    "$evaluate" $golden --shard 1/2 --csv 'q{shard}' --json q1 val
misused 'CSV and JSON on stdout' 'cannot go to one place' "$evaluate" $golden --csv - --json - val
fails 'a report in place of a CSV' 'q: is a folder' "$evaluate" $golden --csv q --report q/ val
fails 'more shards than pictures' '9 shards of 6 pictures' "$evaluate" $golden --shard 1/9 val

# ---- the figures ---------------------------------------------------------------------------------
works 'a folder' '^top-1 +[0-9.]+ %  \([0-9]+\)$' \
    "$evaluate" $golden --json all.json --csv all.csv --report report val
holds 'every figure' grep -q '^loss  *[0-9.]*$' out
holds 'all three speeds' grep -qE \
    '^speed +[0-9.]+ pictures/s end to end; network alone [0-9.]+, decoding alone [0-9.]+$' out
holds 'pictures and rule' grep -q ': 6 of 3 classes (synsets)$' out
is 'CSV: a line per picture' "$(($(wc -l <all.csv)))" 7
is 'CSV: order and labels' "$(cut -d, -f1,2 all.csv | tr '\n' ' ')" 'picture,label '\
'n01440764/B.JPG,0 n01440764/a.png,0 n01443537/below/deep.jpeg,1 n01443537/z.BmP,1 '\
'n15075141/link.png,999 n15075141/x.ppm,999 '
is 'CSV: columns' "$(awk -F, '{ print NF }' all.csv | sort -u)" 16
holds 'JSON is valid' sh -c '"$1/json" result.top1 result.loss run.weights_sha256 \
    run.list_sha256 speed.pictures_per_second records.5.5.4.2 <all.json' sh "$tmp"
is 'JSON: pictures' "$("$tmp/json" result.pictures <all.json)" 6
is 'JSON: whole' "$("$tmp/json" complete <all.json)" true
is 'the same picture twice, the same logits' "$("$tmp/json" records.1.5 <all.json)" \
    "$("$tmp/json" records.4.5 <all.json)"
run "$apps/classify" $golden --topk 1 --exif ignore --json "$png"
is 'the class that classify finds' "$("$tmp/json" top.0.index <out)" \
    "$("$tmp/json" records.1.5.0.0 <all.json)"
figures all.json >want
for how in '--batch 1' '--batch 4 --workers 3' '--device cpu,cpu' '--device cpu,cpu,cpu --batch 2' \
    '--threads 2 --preprocess cpu'; do
    works "$how" '^top-1' "$evaluate" $golden $how --json one.json --csv one.csv val
    figures one.json >got
    same "$how: the same figures" got want
    same "$how: the same CSV" one.csv all.csv
done
json '--json -' result.pictures 6 "$evaluate" $golden --json - val
works '--limit' ': 2 of 2 classes' "$evaluate" $golden --limit 2 --csv limit.csv val
is '--limit is spread evenly' "$(tail -n 2 limit.csv | cut -d, -f1 | tr '\n' ' ')" \
    'n01440764/B.JPG n01443537/z.BmP '
works '--subset' '^top-5 +100.00 %' "$evaluate" $golden --subset val

works 'CSV and JSON of one name in two folders' '^top-1' \
    "$evaluate" $golden --csv all.out --json empty/all.out val
same 'the CSV of two' all.out all.csv
figures empty/all.out >got
same 'the JSON of two' got want
rm empty/all.out
works 'what a killed run of this number has left' '^top-1' sh -c \
    'echo left >k.json.$$-0.tmp; exec "$0" "$@"' "$evaluate" $golden --json k.json val
figures k.json >got
same 'what a killed run has left is not taken' got want
is 'what a killed run has left stays' "$(cat k.json.*.tmp)" left
rm k.json.*.tmp
if [ -c /dev/full ]; then
    check 'a full disk' 1 '/dev/full: cannot write: No space left' '^top-1' \
        "$evaluate" $golden --json /dev/full val
fi

# ---- shards --------------------------------------------------------------------------------------
for i in 1 2 3 4; do
    works "shard $i" "^shard +$i of 4; all have 6 pictures$" \
        "$evaluate" $golden --shard $i/4 --batch $i --json $i.json val
done
works 'merge' '^top-1' "$evaluate" --merge 3.json 1.json 4.json 2.json --json merged.json \
    --csv merged.csv --report merged
is 'merged: what differed between shards is not told' \
    "$("$tmp/json" about.batch <merged.json 2>&1)" 'no about.batch'
is 'merged: the folder' "$("$tmp/json" about.folder <merged.json)" val
figures merged.json >got
same 'merged: the figures of one run' got want
same 'merged: the CSV of one run' merged.csv all.csv
works 'a single run merges with itself alone' '^top-1' "$evaluate" --merge all.json
fails 'a shard is missing' 'shard 2 of 4 is missing' "$evaluate" --merge 1.json 3.json 4.json
fails 'a shard is there twice' '1.json and 1.json: both are shard 1 of 4' \
    "$evaluate" --merge 1.json 1.json 2.json 3.json
fails 'shards of other sizes' 'all.json: is a shard of 1, 1.json one of 4' \
    "$evaluate" --merge 1.json all.json
works 'the plain reference' '^top-1' "$evaluate" $golden --device ref --shard 2/4 --json other.json val
fails 'a shard of another kind of device' \
    'other.json: device is \["reference"\], in 1.json it is \["cpu [a-z0-9_]*"\]' \
    "$evaluate" --merge 1.json other.json 3.json 4.json
works 'compare: kinds of devices' '^top-5 ' "$evaluate" --compare 2.json other.json
json 'the instruction set' run.device '["cpu portable"]' \
    "$evaluate" $golden --isa portable --limit 1 --json - val
json 'two devices of one kind' run.device '["reference"]' \
    "$evaluate" $golden --device ref,ref --limit 1 --json - val
check 'two kinds of devices' 0 'warning: --device: timing decides' '^top-1' \
    "$evaluate" $golden --device ref,cpu --limit 1 val
sed 's/"version": "[0-9.]*"/"version": "0.0.0"/' 2.json >other.json
fails 'a shard of another version' 'other.json: version is "0.0.0", in 1.json it is' \
    "$evaluate" --merge 1.json other.json 3.json 4.json
works 'another size' '^top-1' "$evaluate" --golden --model $nano --size 32 --threads 1 \
    --shard 2/4 --json other.json val
fails 'a shard of another size' 'other.json: height is 32, in 1.json it is 64' \
    "$evaluate" --merge 1.json other.json 3.json 4.json
sed 's/"model": "[a-z0-9_]*"/"model": "swin_tiny_patch4_window7_224"/' 2.json >other.json
fails 'a shard of another model' 'other.json: model is "swin_tiny.*in 1.json it is "swin_nano' \
    "$evaluate" --merge 1.json other.json 3.json 4.json
sed 's/"top5": [0-9]*/"top5": 77/' 2.json >other.json
fails 'counts that are not those of the records' 'other.json: is not a result.*damaged' \
    "$evaluate" --merge 1.json other.json 3.json 4.json
sed 's/"complete": true/"complete": false/' 2.json >other.json
fails 'a shard that was stopped' 'other.json: was stopped before its end' \
    "$evaluate" --merge 1.json other.json 3.json 4.json
head -c 2000 2.json >other.json
fails 'JSON cut short' '^evaluate: other.json: ' "$evaluate" --merge other.json
fails 'CSV as JSON' '^evaluate: all.csv: ' "$evaluate" --merge all.csv
fails 'other JSON' 'nano.json: is not a result' sh -c \
    'echo "{}" >nano.json; exec "$0" --merge nano.json' "$evaluate"
fails 'no such JSON' 'nowhere.json: ' "$evaluate" --merge nowhere.json
fails 'a folder of JSON' 'empty: is a folder; want the JSON files' "$evaluate" --merge empty
# A record is [index, path, label, rank, loss, [[class, logit, probability] ...]]; in the last one
# other numbers, which no run writes.
record='\(\[5, "[^"]*", 999, \)\([0-9]*\), \([0-9.]*\), \[\[\([0-9]*\), \([0-9.]*\), \([0-9.]*\)'
for forged in '\2, \3, [[\4, \5, 50.0' '\2, \3, [[\4, \5, -0.1' '\2, \3, [[\4, 1e300, \6' \
    '\2, \3, [[\4, -9, \6' '\2, -1.5, [[\4, \5, \6' '\2, \3, [[999, \5, \6' \
    '\2, null, [[\4, \5, \6'; do
    sed "s/$record/\1$forged/" all.json >other.json
    differ "$forged: is another file" other.json all.json
    fails "numbers out of range: $forged" 'other.json: is not a result.*damaged' \
        "$evaluate" --merge other.json
done
sed "s/$record/\1\2, \3, [[\4, \5, \6/" all.json >other.json
same 'the same numbers: the same file' other.json all.json
# sh: variables of a cluster
works 'Slurm array' '^shard +2 of 3;' env SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=5 \
    SLURM_ARRAY_TASK_STEP=2 SLURM_ARRAY_TASK_COUNT=3 "$evaluate" $golden --shard auto val
works 'MPI' '^shard +4 of 4;' env OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 \
    "$evaluate" $golden --shard auto val
works 'an array of MPI jobs' '^shard +4 of 6;' env SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_MIN=0 \
    SLURM_ARRAY_TASK_COUNT=3 PMI_RANK=1 PMI_SIZE=2 "$evaluate" $golden --shard auto val
rank='env OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK' # $rank=0: the first of two
for i in 0 1; do
    works "MPI rank $i: its own files" "^shard +$((i + 1)) of 2;" $rank=$i "$evaluate" $golden \
        --shard auto --json 'r.{shard}.json' --csv '{shard}of{shard}.csv' --report 'r{shard}' val
done
is 'the names of results' "$(ls -d r.?.json ?of?.csv r?/index.html | xargs)" \
    '1of1.csv 2of2.csv r.1.json r.2.json r1/index.html r2/index.html'
works 'the files of MPI ranks are merged' '^top-1' "$evaluate" --merge r.1.json r.2.json \
    --csv merged.csv
same 'MPI ranks merged: the CSV of one run' merged.csv all.csv
misused 'ranks that would write one file' \
    "--json a.b/same.json: 2 shards would write it; .*: --json 'a.b/same.[{]shard[}].json'" \
    $rank=0 "$evaluate" $golden --shard auto --json a.b/same.json val
misused 'ranks that would write one report' "2 shards would write it; .*: --report 'a.b/c.[{]shard}'" \
    $rank=1 "$evaluate" $golden --shard auto --report a.b/c val
works 'the only rank may write any file' '^top-1' env PMI_RANK=0 PMI_SIZE=1 "$evaluate" $golden \
    --shard auto --json same.json val
works 'a part that is named in the command' '^shard +2 of 4' "$evaluate" $golden --shard 2/4 \
    --json 'part.{shard}.json' val
holds 'has its number in the name' test -s part.2.json
fails 'an array with gaps' 'task 8 of 3' env SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=0 \
    SLURM_ARRAY_TASK_COUNT=3 "$evaluate" $golden --shard auto val

# ---- comparing -----------------------------------------------------------------------------------
works 'compare: one run twice' '^same bits +6 records$' "$evaluate" --compare all.json one.json
holds 'compare: no difference' grep -qE '^other answers +0; .*' out
works 'another type' '^top-1' "$evaluate" $golden --dtype bf16 --json bf16.json val
works 'compare: types' '^logits +differ by 0[.]' "$evaluate" --compare all.json bf16.json
is 'compare: several with the first' "$("$evaluate" --compare all.json one.json bf16.json |
    grep -c '^same bits')" 2
fails 'compare: other pictures' 'limit.json: pictures is 2, in all.json it is 6' sh -c \
    '"$0" $1 --limit 2 --json limit.json val >/dev/null && exec "$0" --compare all.json limit.json' \
    "$evaluate" "$golden"
fails 'compare: a shard with all' '1.json: is shard 1 of 4 with 2 pictures, all.json shard 1 of 1' \
    "$evaluate" --compare all.json 1.json
fails 'compare: no such file' 'nowhere.json: ' "$evaluate" --compare all.json nowhere.json
# answers NAME DTYPE BEST LEAD: a run of two pictures of class 0, the second broken. Its answer to
# the first is class BEST, whose logit 10 leads by LEAD.
answers() {
    cat >"$1.json" <<JSON
{"format": "vertebra evaluation 1", "complete": true, "shard": [1, 1], "about": {"folder": "."},
 "result": {"pictures": 1, "broken": 1, "top1": $((1 - $3)), "top5": 1},
 "run": {"pictures": 2, "dtype": "$2"}, "class_names": ["cat", "dog"],
 "records": [[0, "cat/0.png", 0, $3, 0.7, [[$3, 10.0, 0.5], [$((1 - $3)), $(
        awk -v lead="$4" 'BEGIN { printf "%.9g", 10 - lead }'), 0.4]]],
  [1, "cat/1.png", 0, "damaged"]]}
JSON
}
# the bounds are 0.0001, 0.1 and 0.4
answers a f32 0 0.00009
answers b f32 1 0.00009
works 'compare: an answer lost to rounding' \
    '^cat/0.png: 0 cat, ahead by [0-9.]+e-05; 1 dog, ahead by [0-9.]+e-05$' \
    "$evaluate" --compare a.json b.json
holds 'compare: how many, and the bound' grep -qE \
    '^other answers +1; a lead of 0[.]0001 may be lost to rounding, the smallest is 8' out
holds 'compare: what is broken in both is the same' grep -qE '^same bits +1 records$' out
sed 's/0[.]7, \[\[.*/0.7, [[0, 0.300000012, 0.300000012], [1, 0.300000012, 0.300000012]]],/' a.json >b.json
works 'compare: equal logits whose decimals round up' '^top-1 +1 in a.json, 1 in b.json' \
    "$evaluate" --compare a.json b.json
answers b f32 1 0.00011
check 'compare: an answer with a lead' 1 'b.json: 1 answers differ from a.json by more than rounding' \
    '^cat/0.png: .*; more than rounding$' "$evaluate" --compare a.json b.json
check 'compare: the other way round' 1 'a.json: 1 answers' '.*' "$evaluate" --compare b.json a.json
answers b f16 1 0.09
works 'compare: f32 and f16' '^other answers +1; a lead of 0[.]1 ' "$evaluate" --compare a.json b.json
answers b f16 1 0.11
check 'compare: f16 with a lead' 1 '1 answers' '.*' "$evaluate" --compare a.json b.json
answers b bf16 1 0.39
works 'compare: f32 and bf16' '^other answers +1; a lead of 0[.]4 ' "$evaluate" --compare b.json a.json
sed 's/\[1, "cat.*/[1, "cat\/1.png", 0, 0, 0.7, [[0, 10.0, 0.5]]]]}/; s/"broken": 1/"broken": 0/
    s/"pictures": 1/"pictures": 2/; s/"top1": 1, "top5": 1/"top1": 2, "top5": 2/' a.json >b.json
check 'compare: broken in one' 1 '1 answers differ' '^cat/1.png: broken in a.json alone$' \
    "$evaluate" --compare a.json b.json
sed 's/"dtype": "f32"/"dtype": "f32", "model": "other"/' a.json >b.json
fails 'compare: another model' 'b.json: model is "other", in a.json it is absent' \
    "$evaluate" --compare a.json b.json

# ---- classes -------------------------------------------------------------------------------------
# labels OPTION...: the labels of the pictures of `classes`
labels() {
    rm -f labels.csv
    run "$evaluate" $golden --csv labels.csv "$@"
    cut -d, -f2 labels.csv 2>&1 | tail -n +2 | tr '\n' ' '
}
mkdir -p numbers/0 numbers/10 numbers/2 named/tench named/gold_fish
for folder in numbers/0 numbers/10 numbers/2 named/tench named/gold_fish; do
    cp "$png" $folder/a.png
done
is 'folders of digits are classes' "$(labels numbers)" '0 10 2 '
mkdir numbers/1000
fails 'a digit folder beyond the classes' "folder '1000': .*end at 999" \
    "$evaluate" $golden numbers
mv numbers/1000 numbers/0002
fails 'two folders of one number' "^evaluate: folders '0002' and '2' are both class 2; --class-map" \
    "$evaluate" $golden numbers
rmdir numbers/0002
mkdir numbers/misc
fails 'an odd folder beside numbers' \
    "^evaluate: numbers: 'misc': not class numbers, as the other 3 class folders are; move" \
    "$evaluate" $golden numbers
rmdir numbers/misc
mkdir val/lost+found
fails 'an odd folder beside synsets' \
    "^evaluate: val: 'lost[+]found': not synsets, as the other 3 class folders are; move" \
    "$evaluate" $golden val
mkdir -p many
(cd many && mkdir $(seq 1 997 | awk '{ printf "n%08d ", $1 }') a b c)
cp "$png" many/n00000001/a.png
fails 'odd folders that make it 1000' "many: 'a', 'b', 'c': not synsets, as the other 997" \
    "$evaluate" $golden many
mkdir many/d many/e
fails 'many odd folders' "many: 'a', 'b', 'c' and 2 more: not synsets, as the other 997" \
    "$evaluate" $golden many
rm -r val/lost+found many
fails 'folders that say nothing' 'named: 2 class folders, and the model has 1000 classes: --class-map' \
    "$evaluate" $golden named
fails 'the default weights' 'named: 2 class folders, .*; these are the default weights: --model NAME or' \
    "$evaluate" named
fails 'the default weights and numbers' "'10[0-9]*': .*; these are the default weights: --model NAME" \
    sh -c 'mkdir numbers/1000 && exec "$0" numbers' "$evaluate"
rmdir numbers/1000
{ printf 'tench\ngold fish\n'; seq 3 1000; } >names.txt
is 'folders by label' "$(labels --labels names.txt named)" '1 0 '
mkdir 'named/gold fish'
fails 'two folders of one label' "folders 'gold fish' and 'gold_fish' are both class 1; --class-map" \
    "$evaluate" $golden --labels names.txt named
rmdir 'named/gold fish'
printf 'tench\nsomething\ngold_fish\n' >map.txt
is '--class-map by line' "$(labels --class-map map.txt named)" '2 0 '
printf 'tench\t7\ngold_fish\t999\n' >map.txt
is '--class-map with numbers' "$(labels --class-map map.txt named)" '999 7 '
printf '\357\273\277tench\t7\r\ngold_fish\t999\r\n' >map.txt
is '--class-map of an editor that marks UTF-8' "$(labels --class-map map.txt named)" '999 7 '
printf 'tench\t7\ngold_fish\t7\n' >map.txt
is '--class-map: two folders of one class' "$(labels --class-map map.txt named)" '7 7 '
for line in 'gold_fish 5' 'gold_fish   5' 'gold_fish, 5' 'gold_fish;5'; do
    printf 'tench\n%s\n' "$line" >map.txt
    fails "--class-map: '$line'" 'map.txt: line 2: want a tab between folder and class' \
        "$evaluate" $golden --class-map map.txt named
done
printf 'tench\ngold_fish\ntench 2\n' >map.txt
is '--class-map: a class whose name is a folder and a number' \
    "$(labels --class-map map.txt named)" '1 0 '
printf 'tench 7\ngold_fish\t7\n' >map.txt
fails '--class-map: one line without a tab' 'map.txt: line 1: want a folder, a tab and a class' \
    "$evaluate" $golden --class-map map.txt named
printf 'tench\t7\n' >map.txt
fails 'a folder that the map lacks' "map.txt does not name the folder 'gold_fish'" \
    "$evaluate" $golden --class-map map.txt named
printf 'tench\t7\ngold_fish\t1000\n' >map.txt
fails 'a class that the model lacks' 'map.txt: line 2: want a folder, a tab and a class below 1000' \
    "$evaluate" $golden --class-map map.txt named
fails 'no such map' '--class-map: cannot read' "$evaluate" $golden --class-map nowhere named
fails 'labels of another model' 'has 2 lines, the model 1000' \
    "$evaluate" $golden --labels map.txt named
mkdir val/n00000001
cp "$png" val/n00000001/a.png
fails 'a synset that is not of the 1000' "folder 'n00000001' is none of the 1000" \
    "$evaluate" $golden val
rm -r val/n00000001

# ---- pictures that are odd -----------------------------------------------------------------------
cp -r val odd
mkdir odd/n01484850
check 'an empty class folder' 0 "warning: no pictures in the class folder 'n01484850'" '^top-1' \
    "$evaluate" $golden odd
rmdir odd/n01484850
cp "$png" odd/outside.png
check 'a picture in no class' 0 'warning: 1 pictures lie in no class folder' '6 of 3 classes' \
    "$evaluate" $golden odd
rm odd/outside.png
echo text >odd/n01440764/c.jpg
check 'a broken picture' 1 'odd/n01440764/c.jpg: not a picture' '^broken +1, which are not' \
    "$evaluate" $golden --csv odd.csv --json odd.json odd
is 'a broken picture: counted' "$("$tmp/json" result.broken result.pictures <odd.json | tr '\n' ' ')" \
    '1 6 '
holds 'a broken picture: named in the CSV' grep -q '^n01440764/c.jpg,0,.*,"not a picture' odd.csv
is 'a broken picture: the others are judged alike' "$(grep -v c.jpg odd.csv | cksum)" \
    "$(cksum <all.csv)"
check 'a broken picture: merged' 1 'odd/n01440764/c.jpg: not a picture' '^broken +1,' \
    "$evaluate" --merge odd.json --csv again.csv
same 'a broken picture: the same CSV' again.csv odd.csv
rm odd/n01440764/c.jpg
for file in gone.png a.webp a.tiff; do
    case $file in
    gone.png) ln -s nowhere odd/n01440764/$file ;;
    a.webp) printf 'RIFF\044\000\000\000WEBPVP8 \030\000\000\000' >odd/n01440764/$file ;;
    a.tiff) printf 'II*\000\010\000\000\000' >odd/n01440764/$file ;;
    esac
    check "$file is not left out silently" 1 "odd/n01440764/$file: " '^broken +1,' \
        "$evaluate" $golden odd
    rm odd/n01440764/$file
done
mkfifo odd/n01440764/pipe.png
check 'a pipe does not hang it' 1 'pipe.png: ' '^broken' "$evaluate" $golden odd
rm odd/n01440764/pipe.png
ln -s .. odd/n01440764/loop
fails 'a link that leads back' 'a link to a folder that it lies in' "$evaluate" $golden odd
rm odd/n01440764/loop
mkdir odd/n01440764/locked
chmod 000 odd/n01440764/locked
if ls odd/n01440764/locked >/dev/null 2>&1; then
    skip 'a folder without permission' 'this user may read everything'
else
    fails 'a folder without permission' 'locked: cannot list: Permission denied' \
        "$evaluate" $golden odd
fi
rmdir odd/n01440764/locked
for link in odd/n01443537/gone odd/n07248320; do
    ln -s nowhere $link
    fails "$link: a folder that is gone" \
        "^evaluate: $link: cannot tell whether it is a folder: No such file" \
        "$evaluate" $golden odd
    rm $link
done
mkdir -p odd/n01440764/names/below
chmod 444 odd/n01440764/names
if stat odd/n01440764/names/below >/dev/null 2>&1; then
    skip 'a folder with names alone' 'this user may read everything'
else
    fails 'a folder with names alone' \
        'names/below: cannot tell whether it is a folder: Permission denied' \
        "$evaluate" $golden odd
fi
chmod 755 odd/n01440764/names
rm -r odd/n01440764/names
deep=$(printf '%0250d' 0)
(
    cd odd/n01440764
    for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        mkdir $deep
        cd -P $deep
    done
    cp "$png" a.png
)
fails 'a path that is too long' "$deep: cannot tell whether it is a folder: File name too long" \
    "$evaluate" $golden odd
rm -r odd/n01440764/$deep
# Reading a folder ends with an error at a name "unreadable", and "interrupt" presses Ctrl-C.
${CC:-gcc} -shared -fPIC -o shim.so -x c - -ldl <<'C'
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
struct dirent *readdir(DIR *stream)
{
    struct dirent *(*next)(DIR *) = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
    struct dirent *entry = next(stream);
    if (entry && strcmp(entry->d_name, "unreadable") == 0) {
        errno = EIO;
        return NULL;
    }
    if (entry && strcmp(entry->d_name, "interrupt") == 0) {
        raise(SIGINT);
    }
    return entry;
}
C
shim="env LD_PRELOAD=./shim.so ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0"
touch odd/n01440764/unreadable
fails 'a disk that fails' '^evaluate: odd/n01440764: cannot list: Input/output error$' \
    $shim "$evaluate" $golden odd
mv odd/n01440764/unreadable odd/n01440764/interrupt
fails 'Ctrl-C while folders are listed' '^evaluate: stopped while odd was listed$' \
    $shim "$evaluate" $golden --json stopped.json odd
absent 'Ctrl-C while folders are listed' stopped.json
rm odd/n01440764/interrupt
mkdir -p 'quo,"ted/x' && cp "$png" 'quo,"ted/x/a,"b.png'
printf 'x\t3\n' >map.txt
works 'commas and quotes in names' '^top-1' \
    "$evaluate" $golden --class-map map.txt --csv odd.csv 'quo,"ted'
holds 'commas and quotes in the CSV' grep -q '^"x/a,""b.png",3,' odd.csv
odd_name=$(printf 'es\033[31m\nc.png')
echo text >"odd/n01440764/$odd_name"
check 'a name that drives a terminal' 1 'n01440764/es[?][[]31m[?]c.png: not a picture' '^broken' \
    "$evaluate" $golden odd
rm "odd/n01440764/$odd_name"

# names that are no UTF-8, names that are, and names that look like what the JSON makes of the first
strange=$(printf 'strange\377')
for class in "$(printf '\303\244\\')" "$(printf 'k\303')" 'k\xc3'; do
    mkdir -p "$strange/$class"
    cp "$png" "$strange/$class/$(printf 'a\377\303\244.png')"
    cp "$png" "$strange/$class/$(printf '\303\244.png')"
    cp "$png" "$strange/$class/"'\xff.png'
done
echo text >"$strange/$(printf 'k\303/\351\\.png')"
printf 'k\303\t0\nk\\xc3\t1\n\303\244\\\t2\n' >map.txt
for shard in 1/2 2/2 1/1; do
    run "$evaluate" $golden --class-map map.txt --shard $shard --json "strange.{shard}of${shard#*/}" \
        --csv odd.csv --report odd.report "$strange"
done
check 'names of any bytes: merged' 1 'not a picture' '^broken +1,' "$evaluate" \
    --merge strange.1of2 strange.2of2 --json again.json --csv again.csv --report again.report
figures strange.1of1 >want
figures again.json >got
same 'names of any bytes: the JSON of one run' got want
same 'names of any bytes: the CSV of one run' again.csv odd.csv
holds 'names of any bytes: the bytes in the CSV' grep -qaF "$(printf 'k\303/a\377\303\244.png,0,k\303,')" odd.csv
is 'names of any bytes: in the JSON' "$("$tmp/json" records.0.1 about.folder class_names.1 <again.json |
    tr '\n' ' ')" 'k\\xc3/\\xff.png strange\xff k\\xc3 '
holds 'names of any bytes: thumbnails' grep -q '<img width=' again.report/index.html
holds 'names of any bytes: all of them' sh -c '! grep -q "not here" again.report/index.html'
for escape in '\\\\x0' '\\\\x00' '\\\\xzz' '\\\\xFF' '\\\\' '\\\\n'; do
    sed "s/\"folder\": \"[^\"]*/&$escape/" again.json >other.json
    fails "a name with $escape" 'other.json: is not a result.*damaged' "$evaluate" --merge other.json
done

# ---- report --------------------------------------------------------------------------------------
holds 'the report is a page' grep -q '<!DOCTYPE html>' report/index.html
holds 'the report needs no other file' sh -c \
    '! grep -oE "(src|href)=\"[^\"]{0,30}" report/index.html | grep -v "\"data:image/png;base64,"'
holds 'the report has thumbnails' grep -q '<img width=' report/index.html
is 'the report: its files' "$(ls report | tr '\n' ' ')" 'confusion.png index.html '
is 'the report: the matrix is a PNG' "$(od -An -tx1 -N4 report/confusion.png | tr -d ' ')" 89504e47
holds 'the matrix: answers among classes without pictures' grep -q '(others)' report/index.html
works 'a report of classes that all have pictures' '^top-5 +100.00 %' \
    "$evaluate" $golden --subset --report all.report val
holds 'the matrix: no column without answers' sh -c '! grep -q "(others)" all.report/index.html'
is 'the matrix: as wide as it is high' \
    "$(od -An -tu1 -j16 -N4 all.report/confusion.png)" "$(od -An -tu1 -j20 -N4 all.report/confusion.png)"
same 'the merged report has the same matrix' report/confusion.png merged/confusion.png
mkdir -p large/7
{ printf 'P4\n12000 7500\n' && head -c 11250000 /dev/zero; } >large/7/large.pbm
check 'a large picture' 0 'large/7/large.pbm: large picture: 12000 x 7500 pixels' 'top-1' \
    "$evaluate" $golden --report large_report large
is 'is warned of once' "$(grep -c 'large picture' err)" 1
rm -r large
for folder in odd odd/report odd/n01440764/../report/ odd/n01440764/report; do
    fails "--report $folder" "--report $folder: lies in odd, where it would become a class" \
        "$evaluate" $golden --report $folder odd
    absent "--report $folder: nothing is made" odd/report odd/n01440764/report
done
works 'a report beside the folder' '^top-1' "$evaluate" $golden --report odd.report odd
mkdir -p 'tag/<b>&' && cp "$png" 'tag/<b>&/a.png'
printf '<b>&\t3\n' >map.txt
works 'names that look like tags' '^top-1' \
    "$evaluate" $golden --class-map map.txt --report tagged tag
holds 'are text in the report' sh -c 'grep -q "&lt;b&gt;&amp;" tagged/index.html &&
    ! grep -q "<b>&" tagged/index.html'

# ---- the bar -------------------------------------------------------------------------------------
mkdir -p long/0
for i in 0 1 2 3 4 5 6 7 8 9; do
    ln -s "$jpeg" long/0/$i.jpg
done
# bar COLUMNS: the last state of the bar in a terminal so wide
bar() {
    script -qec "stty cols $1; '$evaluate' $golden long" /dev/null </dev/null |
        tr '\r' '\n' | grep 'ETA' | tail -n 1
}
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
    for columns in 200 80 60; do
        state=$(bar $columns)
        clear=$(printf '\033[K')
        holds "$columns columns: what is behind the bar is cleared" test "${state%"$clear"}" != "$state"
        state=${state%"$clear"}
        holds "$columns columns: the bar is one line" test "${#state}" -gt 50 -a "${#state}" -lt $columns
    done
else
    skip 'the bar' 'there is no script, which makes a terminal'
fi

# ---- a full disk, signals ------------------------------------------------------------------------
i=1
while [ $i -lt 300 ]; do # so many that no machine is through before the signal
    ln -s 0 long/$i
    i=$((i + 1))
done
# The disk that is full for both has room for the second once the first is taken away.
mkdir -p tiny
if unshare -rm mount -t tmpfs -o size=32k none tiny 2>err; then
    run unshare -rm sh -c 'mount -t tmpfs -o size=32k none tiny && exec "$0" "$@"' "$evaluate" \
        $golden --limit 150 --json tiny/a.json --csv tiny/a.csv long
    is 'a full disk: both are named with the reason' \
        "$(grep -c '^evaluate: tiny/a[.].*: cannot write: No space left' err)" 2
else
    skip 'a full disk' "$(cat err)"
fi

# stopped SIGNAL: a run that gets the signal after 3 seconds
stopped() {
    rm -f part.json
    "$evaluate" --golden --model $nano --threads 1 --batch 2 --json part.json long >out 2>err &
    pid=$!
    sleep 3
    kill -"$1" $pid
    code=0
    wait $pid || code=$?
    judge "$1" 1 '^evaluate: (stopped after [0-9]+ of 3000 pictures|.*cancelled)' '.*'
    if [ -f part.json ]; then
        is "$1: the JSON says that it is partial" "$("$tmp/json" complete <part.json)" false
    else
        bad "$1" 'no partial JSON'
    fi
    absent "$1: nothing is left beside the results" ./*.tmp
}
for signal in TERM HUP INT; do
    stopped $signal
done
fails 'what is partial is not merged' 'stopped before its end' "$evaluate" --merge part.json
finish
