# SPDX-License-Identifier: Apache-2.0
"""Write emoji as pictures that are named by Unicode.

    python3 emoji_pictures.py OUT_DIR NOTO_COLOR_EMOJI.ttf EMOJIONE_PNG_DIR

OUT_DIR/noto/NAME.png is drawn from the bitmaps in the font, OUT_DIR/emojione/NAME.png is copied.
NAME is the character's Unicode name ("hot_beverage"); sequences of characters are left out.
"""

import os
import shutil
import sys
import unicodedata

from PIL import Image, ImageDraw, ImageFont

FONT_SIZE, CANVAS = 109, 160       # the only size of the bitmaps in the font, and room for one
FIRST, LAST = 0x2300, 0x1FAFF      # code points that hold pictures


def file_name(character):
    return unicodedata.name(character).lower().replace(" ", "_") + ".png"


def draw(character, font):
    picture = Image.new("RGBA", (CANVAS, CANVAS))
    ImageDraw.Draw(picture).text((8, 8), character, font=font, embedded_color=True)
    return picture


def draw_font(font_path, folder):
    font = ImageFont.truetype(font_path, FONT_SIZE)
    missing = draw("\U0010FFFD", font)
    for code in range(FIRST, LAST + 1):
        if unicodedata.category(chr(code)) != "So":
            continue
        picture = draw(chr(code), font)
        if picture.getbbox() and picture.tobytes() != missing.tobytes():
            picture.save(os.path.join(folder, file_name(chr(code))))


def copy_pictures(source, folder):
    for name in sorted(os.listdir(source)):
        stem = name.rsplit(".", 1)[0]
        if "-" not in stem and unicodedata.name(chr(int(stem, 16)), ""):
            target = os.path.join(folder, file_name(chr(int(stem, 16))))
            shutil.copy(os.path.join(source, name), target)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    out, font_path, emojione = sys.argv[1:]
    for vendor in ("noto", "emojione"):
        os.makedirs(os.path.join(out, vendor), exist_ok=True)
    draw_font(font_path, os.path.join(out, "noto"))
    copy_pictures(emojione, os.path.join(out, "emojione"))


if __name__ == "__main__":
    main()
