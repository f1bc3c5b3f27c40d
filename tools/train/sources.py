"""What the training pictures are: every source picture or model, its class and its split.

A source yields (key, path): the key is what the patterns of classes.tsv are matched against.
Nothing here decodes a picture; build_dataset.py does.
"""

import csv
import hashlib
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))

# How a source's pictures look. Photographs weigh most in training, drawings least.
PHOTO, CUTOUT, RENDER, DRAWING = range(4)
KIND_NAMES = ["photo", "photo cut-out", "render", "drawing"]

HELD_OUT = 0.15                    # share of the objects of every class kept for the held-out set


def files_under(folder, endings):
    for parent, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            if name.lower().endswith(endings):
                path = os.path.join(parent, name)
                yield os.path.relpath(path, folder).replace(os.sep, "/"), path


def stamps(cache):
    folder = "files/tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    return files_under(os.path.join(cache, folder), (".png",))


def art4apps(cache):
    folder = "files/pysiogame/usr/share/games/pysiogame/res/images/art4apps"
    return files_under(os.path.join(cache, folder), (".jpg", ".png"))


def clipart(cache):
    folder = "files/openclipart-png/usr/share/openclipart/png"
    return files_under(os.path.join(cache, folder), (".png",))


def photos(cache):
    return files_under(os.path.join(cache, "gcompris/gcompris/src/activities"), (".webp",))


# Packages whose sample photographs are used for training; none of them is in real_photos.tsv.
SAMPLE_FOLDERS = {
    "kphotoalbum": "files/kphotoalbum/usr/share/kphotoalbum/demo",
    "forensics-samples-files": "files/forensics-samples-files/usr/share/forensics-samples",
    "dlib": "files/dlib/examples", "leptonlib": "files/leptonlib/prog",
}


def samples(cache):
    for package, folder in SAMPLE_FOLDERS.items():
        for key, path in files_under(os.path.join(cache, folder), (".jpg",)):
            yield "%s/%s/%s" % (package, folder.split("/")[-1], key), path


def scratch(cache):
    folder = "files/scratch/usr/share/scratch/Media"
    for key, path in files_under(os.path.join(cache, folder), (".png", ".gif", ".jpg")):
        if key.startswith(("Costumes/", "Backgrounds/")):
            yield key, path


def emoji(cache):
    return files_under(os.path.join(cache, "emoji"), (".png",))


# Folders of a few photographs each.
ALBUM_FOLDERS = {
    "gcompris": "gcompris/gcompris/src/activities/erase/resource",
    "qtwebengine5-examples": "files/qtwebengine5-examples/usr/lib/x86_64-linux-gnu/qt5/examples/"
                             "webengine/recipebrowser",
    "wx3.2-examples": "files/wx3.2-examples/usr/share/doc/wx3.2-examples/examples/samples/image",
}


def album(cache):
    for package, folder in ALBUM_FOLDERS.items():
        for key, path in files_under(os.path.join(cache, folder), (".webp", ".jpg", ".png")):
            yield "%s/%s" % (package, key.split("/")[-1]), path


def read_catalog(path):
    """Sweet Home 3D catalogue: numbered properties 'name#12=value', grouped by number."""
    entries = {}
    with open(path, encoding="latin-1") as f:
        for line in f:
            match = re.match(r"(\w+)#(\d+)\s*=\s*(.*)", line)
            if match:
                entries.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
    return [entries[number] for number in sorted(entries)]


def furniture(cache):
    """Key 'Catalogue/Name#id'; the path is a tuple (OBJ file, catalogue entry)."""
    root = os.path.join(cache, "furniture")
    for catalog in sorted(os.listdir(root)):
        folder = os.path.join(root, catalog)
        for entry in read_catalog(os.path.join(folder, "PluginFurnitureCatalog.properties")):
            model = os.path.join(folder, entry["model"].lstrip("/"))
            key = "%s/%s#%s" % (catalog, entry["name"], entry["id"].split("#")[-1])
            yield key, (model, entry)


def models(cache, family):
    for key, path in files_under(os.path.join(cache, "models", family), (".obj",)):
        yield key[:-4], (path, {})


SOURCES = {
    "stamp": stamps, "art4apps": art4apps, "clipart": clipart, "photo": photos,
    "sample": samples, "furniture": furniture, "0ad": lambda cache: models(cache, "0ad"),
    "flightgear": lambda cache: models(cache, "fg"),
    "scratch": scratch, "emoji": emoji, "album": album,
}
# These came later. They are split by themselves, so that no object of the other sources changes
# sides and weights trained before can be trained further.
LATER, EARLIER_CLASSES = ("scratch", "emoji", "album"), 63

# The photographs among the drawn figures of Scratch.
SCRATCH_PHOTOS = re.compile(
    r"Animals/(bird-flying|buffalo|cow|elephant\.|horse2|insect|squirrel)|"
    r"People/(amon|anjuli|anna|breakdancer|calvrett|cassy|chamak|dan\d|ed\.|football|jay|jodi|lee|"
    r"mako|marissa|nathan|nina|paul|referee|ribbon|sam\.|thai)|"
    r"Things/(flower-vase|fruit_platter|lamp|palmtree|umbrella|marble-building)|"
    r"Transportation/(airplane\.|bike|bus|car-|sail-boat|tug-boat|yacht|street-cleaner)")


def kind_of(source, key):
    if source in ("photo", "sample", "album") or key.startswith("Backgrounds/"):
        return PHOTO
    if source == "scratch" and SCRATCH_PHOTOS.search(key):
        return CUTOUT
    if source in ("furniture", "0ad", "flightgear"):
        return RENDER
    if source == "stamp" and not re.search(r"cartoon|hats/|santahat|party-hat|halloween", key):
        return CUTOUT
    return DRAWING


def group_of(source, key):
    """Variants of one object share a group, and a group is never split."""
    if source == "0ad":
        if key.startswith("structures/"):
            return key.split("/")[1]                       # all buildings of one civilisation
        return re.split(r"[_\d]", key)[0]                  # one mesh, several skins or sizes
    if source == "furniture":
        return key.split("#")[1]
    if source == "photo" and "babyshapes" not in key:
        stem = key.split("/")[-1].split(".")[0].lower()    # the same monument occurs twice
        return stem if "monument" in key else key
    if source == "scratch" and "People/" in key:           # poses of one person
        return re.split(r"[-\d.]", key.split("/")[-1])[0]
    stem = key.split("/")[-1].rsplit(".", 1)[0]
    return re.sub(r"[\d_-]+$", "", stem) or stem[:1]


def load_classes():
    with open(os.path.join(HERE, "classes.tsv")) as f:
        rows = [row for row in csv.reader(f, delimiter="\t") if row and not row[0].startswith("#")]
    names = list(dict.fromkeys(row[0] for row in rows))
    return names, [(row[0], row[1], re.compile(row[2])) for row in rows]


def load_excluded():
    with open(os.path.join(HERE, "excluded.txt")) as f:
        return {line.strip() for line in f if line.strip() and not line.startswith("#")}


def choose_held_out(groups, name):
    """Whole groups, in the order of a hash, until HELD_OUT of all objects is reached."""
    total, taken, chosen = sum(len(g) for g in groups.values()), 0, []
    for group in sorted(groups, key=lambda g: hashlib.md5((name + g).encode()).hexdigest()):
        size = len(groups[group])
        if len(groups) > 3 and taken + size <= HELD_OUT * total + 0.5:
            chosen.append(group)
            taken += size
    return chosen


def mark_held_out(items, names):
    """Set held_out of every item. A class's objects of one kind are split by themselves; those of
    later sources, too, where the class is an earlier one."""
    parts = {}
    for item in items:
        earlier = names.index(item["class"]) < EARLIER_CLASSES
        part = item["class"], item["kind"], earlier and item["source"] in LATER
        parts.setdefault(part, {}).setdefault(item["group"], []).append(item)
    for part, groups in parts.items():
        chosen = choose_held_out(groups, part[0])
        for group, members in groups.items():
            for item in members:
                item["held_out"] = group in chosen


def collect(cache):
    """All items: dicts with class, source, key, path, kind, group and held_out."""
    names, patterns = load_classes()
    excluded = load_excluded()
    items, seen, contents = [], set(), set()
    for source, lister in SOURCES.items():
        mine = [(name, pattern) for name, s, pattern in patterns if s == source]
        for key, path in lister(cache):
            label = next((name for name, pattern in mine if pattern.search(key)), None)
            if label is None or (source, key) in seen or source + ":" + key in excluded:
                continue
            seen.add((source, key))
            file = path[0] if isinstance(path, tuple) else path
            if os.path.islink(file) or not os.path.exists(file):
                continue
            with open(file, "rb") as f:
                digest = hashlib.md5(f.read()).hexdigest()
            if digest in contents and source != "furniture":
                continue                                   # the same file in a second folder
            contents.add(digest)
            items.append({"class": label, "source": source, "key": key, "path": path,
                          "kind": kind_of(source, key), "group": group_of(source, key)})
    mark_held_out(items, names)
    return names, items
