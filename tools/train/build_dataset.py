"""Build the packed training and held-out sets from the fetched sources.

    python3 build_dataset.py CACHE OUT_DIR [--render PATH/TO/render_obj]

Writes OUT_DIR/train.npz, test.npz (cut-outs with alpha and whole photographs), their backgrounds
train_backgrounds.npz, test_backgrounds.npz, and manifest.tsv with the split of every object.
Pictures are kept as WebP bytes: the whole set is about 45 MB.
"""

import argparse
import hashlib
import io
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

import sources

Image.MAX_IMAGE_PIXELS = None

CUTOUT_SIDE = {sources.CUTOUT: 192, sources.RENDER: 160, sources.DRAWING: 144}
PHOTO_SIDE = 256
RENDERS_PER_CLASS = 400
TEST_VIEWS = 4
FLAT = ("door", "window")          # rendered from the front only


class Pack:
    """Encoded pictures with their labels; aspect is width / height, 0 for cut-outs."""

    def __init__(self):
        self.blobs, self.labels, self.kinds, self.aspects = [], [], [], []

    def add(self, blob, label=-1, kind=-1, aspect=0.0):
        self.blobs.append(blob)
        self.labels.append(label)
        self.kinds.append(kind)
        self.aspects.append(aspect)

    def save(self, path):
        ends = np.cumsum([len(b) for b in self.blobs])
        np.savez(path, blob=np.frombuffer(b"".join(self.blobs), np.uint8), end=ends,
                 label=np.array(self.labels, np.int16), kind=np.array(self.kinds, np.int8),
                 aspect=np.array(self.aspects, np.float32))
        print("%s: %d pictures, %.1f MB" % (path, len(ends), ends[-1] / 1e6))


def encode(picture, form, quality):
    out = io.BytesIO()
    picture.save(out, form, quality=quality)
    return out.getvalue()


def open_picture(path):
    return ImageOps.exif_transpose(Image.open(path))


def cut_background(picture, tolerance):
    """Make the even background around an object transparent: a flood fill from the border."""
    rgb = picture.convert("RGB")
    edge = np.concatenate([np.asarray(rgb)[0], np.asarray(rgb)[-1],
                           np.asarray(rgb)[:, 0], np.asarray(rgb)[:, -1]])
    colour = tuple(int(c) for c in np.median(edge, axis=0))
    framed = ImageOps.expand(rgb, 3, colour)
    key = (1, 254, 3)                                     # a colour that no picture is made of
    ImageDraw.floodfill(framed, (0, 0), key, thresh=tolerance)
    background = (np.asarray(framed)[3:-3, 3:-3] == key).all(axis=2)
    alpha = Image.fromarray(np.where(background, 0, 255).astype(np.uint8))
    out = rgb.convert("RGBA")
    out.putalpha(alpha.filter(ImageFilter.GaussianBlur(0.7)))
    return out, 1 - background.mean(), edge.std(axis=0).max()


def crop_to_alpha(picture):
    box = picture.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    return picture.crop(box) if box else None


def encode_cutout(picture, side):
    picture = crop_to_alpha(picture)
    if picture is None or min(picture.size) < 8:
        return None
    picture.thumbnail((side, side), Image.LANCZOS)
    return encode(picture, "WEBP", 80)


def render_views(item, views, render):
    """Pictures of a model; the seed comes from its name, so they are always the same."""
    model, entry = item["path"]
    seed = int(hashlib.md5(item["key"].encode()).hexdigest()[:7], 16)
    with tempfile.TemporaryDirectory() as folder:
        command = [render, model, os.path.join(folder, "v"), "--views", str(views), "--size",
                   str(CUTOUT_SIDE[sources.RENDER]), "--seed", str(seed)]
        if item["class"] in FLAT:
            command.append("--front")
        if entry.get("modelRotation"):
            command += ["--rotate", entry["modelRotation"]]
        if entry.get("width"):
            command += ["--scale", " ".join(entry[k] for k in ("width", "height", "depth"))]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
        for name in sorted(os.listdir(folder)):
            yield Image.open(os.path.join(folder, name)).convert("RGBA")


def pictures_of(item, views, render):
    """List of (encoded picture, kind, aspect) of one object."""
    kind = item["kind"]
    if kind == sources.RENDER:
        blobs = [encode_cutout(picture, CUTOUT_SIDE[kind])
                 for picture in render_views(item, views, render)
                 if np.asarray(picture.getchannel("A")).mean() > 255 * 0.03]     # not a sliver
        return [(blob, kind, 0.0) for blob in blobs if blob]
    picture = open_picture(item["path"])
    if kind == sources.PHOTO:
        whole = picture.convert("RGB")
        squeezed = whole.resize((PHOTO_SIDE, PHOTO_SIDE), Image.LANCZOS)
        out = [(encode(squeezed, "WEBP", 85), kind, whole.width / whole.height)]
        if item["source"] in ("sample", "scratch"):
            return out
        whole.thumbnail((512, 512))
        cut, share, unevenness = cut_background(whole, 40)
        if unevenness < 14 and 0.03 < share < 0.8:        # an object on plain ground: cut it out
            out.append((encode_cutout(cut, CUTOUT_SIDE[sources.CUTOUT]), sources.CUTOUT, 0.0))
        return out
    if item["source"] == "art4apps":
        picture.thumbnail((400, 400))
        picture = cut_background(picture, 60)[0]
    blob = encode_cutout(picture.convert("RGBA"), CUTOUT_SIDE[kind])
    return [(blob, kind, 0.0)] if blob else []


def background_files(cache, items):
    """(path, crops) of pictures to paste on: textures, wallpapers, paintings, places."""
    held = {i["path"] for i in items if i["source"] == "photo" and i["held_out"]}
    labelled = {i["path"] for i in items if i["source"] == "scratch"}
    folder = os.path.join(cache, "files/plasma-workspace-wallpapers/usr/share/wallpapers")
    for theme in sorted(os.listdir(folder)):
        pictures = [p for _, p in sources.files_under(os.path.join(folder, theme),
                                                      (".jpg", ".png")) if "/images/" in p]
        if pictures and theme != "EveningGlow":           # that one is a test photograph
            yield sorted(pictures, key=len)[0], 6
    folder = os.path.join(cache, "files/supertuxkart-data/usr/share/games/supertuxkart/data")
    for key, path in sources.files_under(folder, (".jpg",)):
        if key.startswith(("textures", "tracks")) and "screenshot" not in key:
            yield path, 1
    folder = os.path.join(cache, "0ad/art/textures/terrain/types")
    for key, path in sources.files_under(folder, (".dds",)):
        if "norm" not in key and "spec" not in key:
            yield path, 1
    for key, path in sources.scratch(cache):
        if re.match("Backgrounds/.*jpg", key) and path not in labelled:
            yield path, 1
    for key, path in sources.photos(cache):
        if path not in held and any(k in key for k in (
                "paintings/", "explore_monuments/", "images/monuments", "renewable/dam",
                "renewable/solar", "renewable/geo")):
            yield path, 1


def pack_backgrounds(cache, items, train, test):
    rng = np.random.default_rng(0)
    for path, crops in background_files(cache, items):
        try:
            picture = Image.open(path)
            if picture.mode in ("RGBA", "LA", "P") and not path.endswith(".dds"):
                if np.asarray(picture.convert("RGBA").getchannel("A")).min() < 250:
                    continue
            picture = picture.convert("RGB")
        except (OSError, NotImplementedError):
            continue
        if min(picture.size) < 128:
            continue
        for _ in range(crops):
            side = int(min(picture.size) * (1 if crops == 1 else rng.uniform(0.3, 1)))
            x = rng.integers(0, picture.width - side + 1)
            y = rng.integers(0, picture.height - side + 1)
            crop = picture.crop((x, y, x + side, y + side)).resize((256, 256), Image.LANCZOS)
            name = os.path.basename(path) if crops == 1 else path.split("/images/")[0]
            pack = test if hashlib.md5(name.encode()).digest()[0] < 38 else train
            pack.add(encode(crop, "WEBP", 60))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cache")
    parser.add_argument("out_dir")
    parser.add_argument("--render", default="./render_obj")
    args = parser.parse_args()
    os.makedirs(args.out_dir, exist_ok=True)
    names, items = sources.collect(args.cache)

    models = {}
    for item in items:
        if item["kind"] == sources.RENDER and not item["held_out"]:
            models[item["class"]] = models.get(item["class"], 0) + 1

    def make(item):
        views = TEST_VIEWS
        if not item["held_out"]:
            views = min(20, max(2, RENDERS_PER_CLASS // models.get(item["class"], 1)))
        return pictures_of(item, views, args.render)

    packs = {False: Pack(), True: Pack()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, (item, pictures) in enumerate(zip(items, pool.map(make, items))):
            for blob, kind, aspect in pictures:
                packs[item["held_out"]].add(blob, names.index(item["class"]), kind, aspect)
            if i % 200 == 0:
                print("%d / %d objects" % (i, len(items)), flush=True)
    packs[False].save(os.path.join(args.out_dir, "train.npz"))
    packs[True].save(os.path.join(args.out_dir, "test.npz"))

    train, test = Pack(), Pack()
    pack_backgrounds(args.cache, items, train, test)
    train.save(os.path.join(args.out_dir, "train_backgrounds.npz"))
    test.save(os.path.join(args.out_dir, "test_backgrounds.npz"))

    with open(os.path.join(args.out_dir, "manifest.tsv"), "w") as f:
        f.write("# class\tkind\tsplit\tsource\tkey\n")
        for item in items:
            f.write("\t".join([item["class"], sources.KIND_NAMES[item["kind"]],
                               "held-out" if item["held_out"] else "training", item["source"],
                               item["key"]]) + "\n")


if __name__ == "__main__":
    main()
