#!/bin/sh
# Fetch every source of pictures from Debian 12 (bookworm) into a cache folder and unpack it.
#
#   ./fetch_sources.sh [CACHE]            default: ${XDG_CACHE_HOME:-~/.cache}/vertebra-train
#
# Needs about 3 GB of downloads and 9 GB of disk; apt-get, dpkg-deb, unzip, python3 with Pillow (another one: PYTHON=...),
# a C compiler and libstb-dev. Nothing is installed. Packages that exist already are kept.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/vertebra-train}
mkdir -p "$cache/debs" "$cache/files" "$cache/lists/partial" "$cache/archives/partial"
cache=$(cd "$cache" && pwd)

# Training pictures, models and backgrounds.
train="tuxpaint-stamps-default sweethome3d-furniture pysiogame openclipart-png gcompris-qt-data
       0ad-data flightgear-data-ai flightgear-data-models supertuxkart-data
       plasma-workspace-wallpapers kphotoalbum forensics-samples-files
       scratch fonts-noto-color-emoji ruby-gemojione qtwebengine5-examples wx3.2-examples"
# Real photographs, for testing only.
photos="opencv-doc python3-skimage gnome-control-center-data cinnamon-common palapeli-data
        puzzle-jigsaw python3-sklearn python-kivy-examples libsixel-examples libvigraimpex-doc
        libelementary-data mate-backgrounds lomiri-wallpapers-16.04 lxqt-themes gimp-data
        tuxpaint-data qtbase5-examples libjxl-testdata qtdeclarative5-examples"
# Source packages: the first two for training, the others for testing only.
sources="dlib leptonlib darknet pytorch-vision exiv2 gegl"

cd "$cache/debs"
for package in $train $photos; do
    ls "$package"_*.deb >/dev/null 2>&1 || apt-get download "$package"
    if [ ! -d "$cache/files/$package" ]; then
        mkdir "$cache/files/$package.part"
        dpkg-deb -x "$package"_*.deb "$cache/files/$package.part"
        mv "$cache/files/$package.part" "$cache/files/$package"
    fi
done

# Source packages need a list of their own; the system's lists stay as they are.
cat >"$cache/sources.list" <<END
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
http://deb.debian.org/debian bookworm main contrib
END
set -- -o Dir::Etc::sourcelist="$cache/sources.list" -o Dir::Etc::sourceparts=/dev/null \
       -o Dir::State::lists="$cache/lists" -o Dir::Cache="$cache/archives"
apt-get "$@" update
for package in $sources; do
    if [ ! -d "$cache/files/$package" ]; then
        apt-get "$@" source --download-only --only-source "$package" || true
        mkdir "$cache/files/$package"
        tar -xf "$(ls "$package"_*.orig.tar.* | head -n 1)" -C "$cache/files/$package" \
            --strip-components=1
    fi
done

# Archives inside the packages.
if [ ! -d "$cache/gcompris" ]; then
    "$python" "$here/unpack_rcc.py" "$cache/gcompris" \
        "$cache"/files/gcompris-qt-data/usr/share/gcompris-qt/rcc/*.rcc
fi
if [ ! -d "$cache/furniture" ]; then
    mkdir -p "$cache/furniture.part"
    for catalog in "$cache"/files/sweethome3d-furniture/usr/share/sweethome3d/furniture/*.sh3f; do
        unzip -oq "$catalog" -d "$cache/furniture.part/$(basename "$catalog" .sh3f)"
    done
    mv "$cache/furniture.part" "$cache/furniture"
fi
if [ ! -d "$cache/0ad" ]; then
    unzip -oq "$cache/files/0ad-data/usr/share/games/0ad/mods/public/public.zip" \
        -d "$cache/0ad.part" 'art/actors/*' 'art/meshes/*' 'art/textures/skins/*' 'art/textures/terrain/types/*' \
        'art/variants/*'
    mv "$cache/0ad.part" "$cache/0ad"
fi

if [ ! -d "$cache/emoji" ]; then
    "$python" "$here/emoji_pictures.py" "$cache/emoji.part" \
        "$cache/files/fonts-noto-color-emoji/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf" \
        "$cache"/files/ruby-gemojione/usr/share/rubygems-integration/all/gems/gemojione-*/assets/png
    mv "$cache/emoji.part" "$cache/emoji"
fi

# Models to OBJ, and the renderer.
if [ ! -d "$cache/models/0ad" ]; then
    "$python" "$here/convert_models.py" 0ad "$cache/0ad" "$cache/models/0ad"
fi
if [ ! -d "$cache/models/fg" ]; then
    mkdir -p "$cache/flightgear"
    ln -sfn "$cache/files/flightgear-data-models/usr/share/games/flightgear/Models" \
        "$cache/flightgear/Models"
    ln -sfn "$cache/files/flightgear-data-ai/usr/share/games/flightgear/AI" "$cache/flightgear/AI"
    "$python" "$here/convert_models.py" flightgear "$cache/flightgear" "$cache/models/fg"
fi
cc -O2 -o "$cache/render_obj" "$here/render_obj.c" -I/usr/include/stb -lm
echo "sources are in $cache"
