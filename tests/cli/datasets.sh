#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The scripts that bring data sets into the layout of the programs, on tiny archives made here.
. "$(dirname "$0")/common.sh"
sets=$root/datasets
png=$pictures/png_rgb.png
jpeg=$pictures/photo_420.jpg
cd "$tmp"

for set in imagenet imagenetv2 ade20k coco fashion-mnist; do
    works "$set --help" "^Usage: datasets/$set/prepare" "$sets/$set/prepare" --help
    misused "$set without arguments" '/prepare: want .*OUT' "$sets/$set/prepare"
    misused "$set --nonsense" "unrecognized option '--nonsense'" "$sets/$set/prepare" --nonsense
done

# ---- Fashion-MNIST -------------------------------------------------------------------------------
# idx COUNT FOLDER PREFIX: pictures of 2 x 3 pixels of the value 10 * i, with the labels i % 3
mkdir idx
idx() {
    {
        printf "\\000\\000\\010\\003\\000\\000\\000\\00$1\\000\\000\\000\\002\\000\\000\\000\\003"
        for i in $(seq 0 $(($1 - 1))); do
            for pixel in 1 2 3 4 5 6; do printf "\\$(printf %o $((10 * i)))"; done
        done
    } | gzip >"idx/$2-images-idx3-ubyte.gz"
    {
        printf "\\000\\000\\010\\001\\000\\000\\000\\00$1"
        for i in $(seq 0 $(($1 - 1))); do printf "\\00$((i % 3))"; done
    } | gzip >"idx/$2-labels-idx1-ubyte.gz"
}
idx 5 t10k
idx 7 train
fashion=$sets/fashion-mnist/prepare
make -s -C "$root" CUDA=0 build/release/tools/idx_pictures >/dev/null
works 'fashion-mnist' 'f/test: 5 pictures' "$fashion" --expect=5 idx f
is 'pictures by class' "$(cd f && find . -type f | sort | tr '\n' ' ')" \
    './labels.txt ./test/0/00000.png ./test/0/00003.png ./test/1/00001.png ./test/1/00004.png ./test/2/00002.png '
is 'names of the classes' "$(($(wc -l <f/labels.txt)))" 10
"$apps/classify" --golden --model $nano --size 32 --threads 1 --dump-input three.npy \
    f/test/0/00003.png >/dev/null
holds 'the value of a pixel is 30 (of 255, red)' awk -v got="$(tail -c +129 three.npy |
    od -An -f -N4)" 'BEGIN { exit !((got - (30 / 255 - 0.485) / 0.229) ^ 2 < 1e-10) }'
touch -d 2001-01-01 f/test/0/00003.png
rm f/test/1/00004.png
works 'a second time' 'f/test: 5 pictures' "$fashion" --expect=5 idx f
is 'leaves what is there' "$(date -r f/test/0/00003.png +%Y)" 2001
works '--train' 'f/train: 7 pictures' "$fashion" --train --expect=5 idx f
fails 'the real number is checked' 'f/test: 5 instead of 10000' "$fashion" idx f
fails 'no source' 'nowhere: no such folder .*apt-get install dataset-fashion-mnist' \
    "$fashion" nowhere f
gzip -dc idx/t10k-images-idx3-ubyte.gz | head -c 40 >cut
mkdir cuts && cp idx/* cuts/ && gzip -c cut >cuts/t10k-images-idx3-ubyte.gz
fails 'a cut file' 'images-idx3-ubyte.gz: is cut short' "$fashion" --expect=5 cuts g
echo nothing | gzip -c >cuts/t10k-images-idx3-ubyte.gz
fails 'another file' 'is no IDX file of pictures' "$fashion" --expect=5 cuts g
cp idx/train-labels* cuts/t10k-labels-idx1-ubyte.gz
cp idx/t10k-images* cuts/
fails 'labels of another set' 'another number of labels' "$fashion" --expect=5 cuts g

# ---- ImageNet ------------------------------------------------------------------------------------
# A meta.mat as MATLAB writes it: the struct array `synsets`; class k of classes.tsv gets the number
# 1000 - k, and number 1001 is a group.
${CC:-gcc} -x c -o mat - -lz <<'C'
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
static uint8_t out[1 << 22];
static size_t at;
static void u32(uint32_t v) { memcpy(out + at, &v, 4), at += 4; }
static void element(uint32_t type, const void *data, uint32_t size)
{
    if (size && size <= 4) { /* the short form */
        u32(size << 16 | type), memcpy(out + at, data, size), at += 4;
        return;
    }
    u32(type), u32(size), memcpy(out + at, data, size), at += (size + 7) / 8 * 8;
}
static size_t begin(uint32_t class, int32_t rows, int32_t columns, const char *name)
{
    uint32_t flags[] = {class, 0};
    int32_t dims[] = {rows, columns};
    u32(14), u32(0);
    size_t start = at;
    element(6, flags, 8), element(5, dims, 8), element(1, name, (uint32_t)strlen(name));
    return start;
}
static void end(size_t start)
{
    uint32_t size = (uint32_t)(at - start);
    memcpy(out + start - 4, &size, 4);
}
static void number(double v, int i)
{
    size_t m = begin(6, 1, 1, "");
    uint8_t small = (uint8_t)v;
    uint16_t two = (uint16_t)v;
    i % 3 == 0 ? element(9, &v, 8) : v < 256 ? element(2, &small, 1) : element(4, &two, 2);
    end(m);
}
static void text(const char *s, int wide)
{
    uint16_t w[64];
    size_t m = begin(4, 1, (int)strlen(s), ""), n = strlen(s);
    for (size_t i = 0; i < n; i++) w[i] = (uint8_t)s[i];
    wide ? element(4, w, (uint32_t)(2 * n)) : element(16, s, (uint32_t)n);
    end(m);
}
int main(int argc, char **argv)
{
    enum { WIDTH = 32 };
    static const char *const fields[] = {"ILSVRC2012_ID", "WNID", "words", "num_children"};
    static char synsets[1001][16];
    char names[4 * WIDTH] = {0}, line[256];
    int32_t width = WIDTH;
    for (int i = 0; i < 1000 && fgets(line, sizeof line, stdin); i++) {
        memcpy(synsets[999 - i], line, 9);
    }
    strcpy(synsets[1000], "n00001740");
    for (int f = 0; f < 4; f++) strcpy(names + f * WIDTH, fields[f]);
    size_t top = begin(2, 1001, 1, argv[1]);
    element(5, &width, 4), element(1, names, sizeof names);
    for (int i = 0; i <= 1000; i++) {
        number(i + 1, i), text(synsets[i], i % 2), text("some words", 0), number(i == 1000, i);
    }
    end(top);
    static uint8_t packed[1 << 22];
    uLongf size = sizeof packed;
    compress(packed, &size, out, at);
    uint32_t tag[] = {15, (uint32_t)size};
    printf("%-124s%c%c%s", "MATLAB 5.0 MAT-file", 0, 1, "IM");
    fwrite(tag, 1, 8, stdout), fwrite(packed, 1, size, stdout);
    return argc != 2;
}
C
mkdir -p kit/ILSVRC2012_devkit_t12/data
data=kit/ILSVRC2012_devkit_t12/data
./mat synsets <"$sets/imagenet/classes.tsv" >$data/meta.mat
printf '1000\n1\n1000\n999\n300\n' >$data/ILSVRC2012_validation_ground_truth.txt
tar -czf kit.tar.gz -C kit ILSVRC2012_devkit_t12
mkdir flat
for i in 1 2 3 4 5; do
    { cat "$jpeg" && echo $i; } >flat/ILSVRC2012_val_0000000$i.JPEG
done
touch -d 2012-06-12 flat/*
tar -cf val.tar -C flat $(ls flat)
tar -cf dot.tar -C flat .
imagenet="$sets/imagenet/prepare"
sorted='n01440764/ILSVRC2012_val_00000001.JPEG n01440764/ILSVRC2012_val_00000003.JPEG n01443537/ILSVRC2012_val_00000004.JPEG'
sorted="$sorted n03887697/ILSVRC2012_val_00000005.JPEG n15075141/ILSVRC2012_val_00000002.JPEG "
# tree FOLDER: its files
tree() {
    (cd "$1" && find -L . -type f | sed 's|^./||' | sort | tr '\n' ' ')
}
works 'imagenet from archives' 'in: 5 pictures in 4 classes' "$imagenet" --expect=5 val.tar kit.tar.gz in
is 'number 1000 - k is class k' "$(tree in)" "$sorted"
same 'a picture' in/n15075141/ILSVRC2012_val_00000002.JPEG flat/ILSVRC2012_val_00000002.JPEG
works 'a second time' 'in: 5 pictures' "$imagenet" --expect=5 val.tar kit.tar.gz in
rm -r in/n01440764
works 'a part is missing' 'in: 5 pictures' "$imagenet" --expect=5 dot.tar kit in
is 'it is brought' "$(tree in)" "$sorted"
mkdir -p stopped/.incoming
touch -d 2020-01-01 stopped/.incoming/.started
head -c 100 "$jpeg" >stopped/.incoming/ILSVRC2012_val_00000002.JPEG # half of it
cp -p flat/ILSVRC2012_val_00000003.JPEG stopped/.incoming/
works 'going on after a stop' 'stopped: 5 pictures' "$imagenet" --expect=5 val.tar kit stopped
same 'half a picture is not taken' stopped/n15075141/ILSVRC2012_val_00000002.JPEG \
    flat/ILSVRC2012_val_00000002.JPEG
works 'from a folder' 'copied: 5 pictures' "$imagenet" --expect=5 flat kit copied
is 'copies' "$(tree copied)" "$sorted"
works '--link' 'linked: 5 pictures' "$imagenet" --link --expect=5 flat kit linked
is 'links' "$(tree linked) $(find linked -type f)" "$sorted "
works 'links a second time' 'linked: 5 pictures' "$imagenet" --link --expect=5 flat kit linked
fails 'the real number is checked' 'ground truth: 5 instead of 50000' "$imagenet" val.tar kit.tar.gz x
fails 'no devkit' 'idx: has no meta.mat' "$imagenet" --expect=5 val.tar idx x
fails 'no such archive' 'nowhere.tar: no such file' "$imagenet" --expect=5 nowhere.tar kit x
misused '--link from an archive' '--link wants a folder' "$imagenet" --link val.tar kit x
tar -cf few.tar -C flat ILSVRC2012_val_00000001.JPEG
fails 'pictures are missing' 'few.tar: 4 of the 5 pictures are not in it' \
    "$imagenet" --expect=5 few.tar kit x
head -c 20000 val.tar >cut.tar
fails 'a cut archive' 'cut.tar: .*: is it complete\?' "$imagenet" --expect=5 cut.tar kit y
gzip -c val.tar | head -c 20000 >val_cut.tar.gz
fails 'a cut compressed archive' 'val_cut.tar.gz: .*unexpected end of file: is it complete\?' \
    "$imagenet" --expect=5 val_cut.tar.gz kit y
absent 'failures leave nothing behind' x y
cp $data/meta.mat meta.mat
./mat other <"$sets/imagenet/classes.tsv" >$data/meta.mat
fails 'another table' "its first variable is 'other'" "$imagenet" --expect=5 val.tar kit x
head -n 999 "$sets/imagenet/classes.tsv" | ./mat synsets >$data/meta.mat
fails 'other classes' 'are not the 1000' "$imagenet" --expect=5 val.tar kit x
head -c 3000 meta.mat >$data/meta.mat
fails 'a cut table' 'meta.mat: it is cut short' "$imagenet" --expect=5 val.tar kit x
cp meta.mat $data/meta.mat
echo 2000 >>$data/ILSVRC2012_validation_ground_truth.txt
fails 'an unknown class' 'a class that meta.mat has not' "$imagenet" --expect=6 val.tar kit x

# ---- ImageNet-V2 ---------------------------------------------------------------------------------
mkdir -p v2/set/0 v2/set/10 v2/set/2
for class in 0 10 2; do cp "$jpeg" v2/set/$class/a.jpeg; done
tar -czf v2.tar.gz -C v2 set
v2="$sets/imagenetv2/prepare"
works 'imagenetv2' 'v2out: 3 pictures' "$v2" --expect=3 v2.tar.gz v2out
is 'its folders' "$(tree v2out)" '0/a.jpeg 10/a.jpeg 2/a.jpeg '
works 'a second time' 'v2out: 3 pictures' "$v2" --expect=3 v2.tar.gz v2out
works '--link' 'v2link: 3 pictures' "$v2" --link --expect=3 v2 v2link
is 'links' "$(find v2link -type f)" ''
fails 'the real number is checked' 'v2.tar.gz: pictures: 3 instead of 10000' "$v2" v2.tar.gz v2out
fails 'another archive' 'holds no folder 0' "$v2" val.tar v2bad
mkdir -p v2part/0 && cp "$png" v2part/0/a.jpeg
fails 'a part of the set' 'v2part: pictures: 1 instead of 3' "$v2" --expect=3 v2part v2bad
absent 'is not placed' v2bad
head -c 20000 v2.tar.gz >v2cut.tar.gz
fails 'a cut archive' 'v2cut.tar.gz: .*unexpected end of file: is it complete\?' \
    "$v2" --expect=3 v2cut.tar.gz v2bad
works 'the whole one afterwards' 'v2bad: 3 pictures' "$v2" --expect=3 v2.tar.gz v2bad

# ---- ADE20K and COCO -----------------------------------------------------------------------------
if ! command -v zip >/dev/null || ! command -v unzip >/dev/null; then
    skip 'ade20k and coco' 'zip and unzip are not installed'
    finish
    exit
fi
top=ADEChallengeData2016
for kind in images annotations; do
    mkdir -p $top/$kind/validation $top/$kind/training
done
for n in 1 2; do
    cp "$jpeg" $top/images/validation/ADE_val_$n.jpg
    cp "$png" $top/annotations/validation/ADE_val_$n.png
done
{
    printf 'Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t1\t1\twall\n2\t0.1\t1\t1\tbuilding, edifice\n'
    for i in $(seq 3 150); do printf '%s\t0\t0\t0\tthing %s;other\n' $i $i; done
} >$top/objectInfo150.txt
zip -qr ade.zip $top
ade="$sets/ade20k/prepare"
works 'ade20k' 'ade: 2 pictures with label maps' "$ade" --expect=2 ade.zip ade
is 'its files' "$(tree ade)" "annotations/validation/ADE_val_1.png annotations/validation/ADE_val_2.png classes.txt \
images/validation/ADE_val_1.jpg images/validation/ADE_val_2.jpg "
is 'its names' "$(sed -n '1p;2p;150p' ade/classes.txt | tr '\n' '|')" 'wall|building|thing 150|'
works 'a second time' 'ade: 2 pictures' "$ade" --expect=2 ade.zip ade
works '--link' 'adelink: 2 pictures' "$ade" --link --expect=2 $top adelink
is 'links' "$(find adelink -type f)" adelink/classes.txt
works 'from a folder' 'adecopy: 2 pictures' "$ade" --expect=2 $top adecopy
fails 'the real number is checked' 'pictures: 2 instead of 2000' "$ade" ade.zip ade
rm adecopy/annotations/validation/ADE_val_2.png
cp "$png" adecopy/annotations/validation/ADE_val_9.png
fails 'a picture without label map' 'ADE_val_2 has no picture or no label map' \
    "$ade" --expect=2 $top adecopy
fails 'another folder' 'has no images/validation' "$ade" --expect=2 flat adebad
head -c 3000 ade.zip >cut.zip
fails 'a cut archive' 'cut.zip: End-of-central-directory .*: is it complete\?' "$ade" --expect=2 cut.zip adebad
fails 'a part of the set' 'validation: pictures: 2 instead of 3' "$ade" --expect=3 $top adebad
absent 'is not placed' adebad

mkdir val2017 annotations
cp "$jpeg" val2017/000000000139.jpg
cp "$jpeg" val2017/000000000285.jpg
echo '{"images": [{"file_name": "000000000139.jpg"},{"file_name":"000000000285.jpg"}]}' \
    >annotations/instances_val2017.json
zip -qr val.zip val2017
zip -qr ann.zip annotations
coco="$sets/coco/prepare"
works 'coco' 'coco: 2 pictures' "$coco" --expect=2 val.zip ann.zip coco
is 'its files' "$(tree coco)" \
    'annotations/instances_val2017.json val2017/000000000139.jpg val2017/000000000285.jpg '
works 'a second time' 'coco: 2 pictures' "$coco" --expect=2 val.zip ann.zip coco
works '--link' 'cocolink: 2 pictures' "$coco" --link --expect=2 val2017 annotations cocolink
is 'links' "$(find cocolink -type f)" ''
fails 'the real number is checked' 'pictures: 2 instead of 5000' "$coco" val.zip ann.zip coco
mv coco/val2017/000000000285.jpg coco/val2017/other.jpg
fails 'a picture of the list is missing' '000000000285.jpg of .* is not there' \
    "$coco" --expect=2 val.zip ann.zip coco
absent 'a failure leaves the rest alone' coco/.incoming
mkdir cc && cp -r val2017 cc/
for option in --expect=2 --link; do
    rm -rf wrong
    fails "the folder above the pictures ($option)" '/cc: 000000000139.jpg of .* is not there: is it' \
        "$coco" $option cc annotations wrong
    absent "nothing was placed ($option)" wrong
done
works 'the right one afterwards' 'wrong: 2 pictures' "$coco" --expect=2 cc/val2017 annotations wrong
mkdir -p other/val2017 && cp "$png" other/val2017/000000000139.jpg
(cd other && zip -qr ../other.zip val2017)
fails 'an archive of a part' '/other.zip: 000000000285.jpg of .* is not there' \
    "$coco" --expect=2 other.zip ann.zip fresh
works 'the right one afterwards' 'fresh: 2 pictures' "$coco" --expect=2 val.zip ann.zip fresh
same 'its picture' fresh/val2017/000000000139.jpg "$jpeg"
fails 'another number' 'val2017: pictures: 2 instead of 5000' "$coco" val2017 annotations numbers
absent 'nothing is left behind' numbers in/.incoming in/.devkit stopped/.incoming v2link/.incoming \
    cocolink/.incoming

finish
