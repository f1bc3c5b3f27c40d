"""Turn game models into OBJ + MTL + PNG, which render_obj reads.

    python3 convert_models.py 0ad UNPACKED_PUBLIC_ZIP OUT_DIR     animals, trees and buildings
    python3 convert_models.py flightgear GAME_DATA OUT_DIR        AC3D aircraft, ships and buildings

0 A.D. keeps meshes in PMD files (binary), skins in DDS and the pairing of both in actor XML files;
FlightGear keeps AC3D text files beside their textures. Only geometry and colour are converted.
"""

import os
import re
import struct
import sys
import xml.etree.ElementTree as ET

from PIL import Image


def write_obj(folder, name, parts):
    """parts: list of (points, normals or None, texcoords, faces, texture path or None, colour).

    A face is a list of (point index, texcoord index); normals are indexed like points."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".obj"), "w") as obj, \
         open(os.path.join(folder, name + ".mtl"), "w") as mtl:
        obj.write("mtllib %s.mtl\n" % name)
        saved, base_point, base_normal, base_coord = {}, 1, 1, 1
        for i, (points, normals, coords, faces, texture, colour) in enumerate(parts):
            mtl.write("newmtl m%d\nKd %.4f %.4f %.4f\n" % ((i,) + tuple(colour)))
            if texture and texture not in saved:
                saved[texture] = "%s_%d.png" % (name, len(saved))
                picture = Image.open(texture).convert("RGBA")
                picture.thumbnail((1024, 1024))
                picture.save(os.path.join(folder, saved[texture]))
            if texture:
                mtl.write("map_Kd %s\n" % saved[texture])
            obj.writelines("v %.6g %.6g %.6g\n" % tuple(p) for p in points)
            obj.writelines("vn %.4g %.4g %.4g\n" % tuple(n) for n in normals or [])
            obj.writelines("vt %.6g %.6g\n" % tuple(c) for c in coords)
            obj.write("usemtl m%d\n" % i)
            for face in faces:
                corners = ["%d/%d" % (p + base_point, c + base_coord) for p, c in face]
                if normals:
                    corners = ["%s/%d" % (corner, p + base_normal)
                               for corner, (p, _) in zip(corners, face)]
                obj.write("f " + " ".join(corners) + "\n")
            base_point += len(points)
            base_normal += len(normals or [])
            base_coord += len(coords)


# ---- 0 A.D. ------------------------------------------------------------------------------------

def read_pmd(path):
    """Points, normals, texture coordinates and triangles of a PMD mesh (versions 3 and 4)."""
    with open(path, "rb") as f:
        blob = f.read()
    magic, version, _, count = struct.unpack_from("<4sIII", blob)
    if magic != b"PSMD":
        raise ValueError("not a PMD file: " + path)
    at, sets = 16, 1
    if version >= 4:
        sets = struct.unpack_from("<I", blob, at)[0]
        at += 4
    size = 24 + 8 * sets + 20                  # position, normal, texture coordinates, bones
    points, normals, coords = [], [], []
    for i in range(count):
        values = struct.unpack_from("<8f", blob, at + i * size)
        points.append(values[0:3])
        normals.append(values[3:6])
        coords.append((values[6], values[7]))
    at += count * size
    n = struct.unpack_from("<I", blob, at)[0]
    corners = struct.unpack_from("<%dH" % (3 * n), blob, at + 4)
    faces = [[(c, c) for c in corners[3 * i:3 * i + 3]] for i in range(n)]
    return points, normals, coords, faces


class Actors:
    """Looks up the mesh and skin of 0 A.D. actors: the first variant of every group."""

    def __init__(self, root):
        self.root = os.path.join(root, "art")

    def cached(self, *path):
        full = os.path.join(self.root, *path)
        for candidate in (full + ".cached.dds", full + ".cached.pmd", full):
            if os.path.exists(candidate):
                return candidate
        return None

    def collect(self, node, found, props):
        """Gather from one <variant>: its file's content first, then its own."""
        if node.get("file"):
            path = os.path.join(self.root, "variants", node.get("file"))
            if os.path.exists(path):
                self.collect(ET.parse(path).getroot(), found, props)
        mesh = node.find("mesh")
        if mesh is not None and mesh.text:
            found["mesh"] = mesh.text.strip()
        for texture in node.iter("texture"):
            if texture.get("name") == "baseTex":
                found["skin"] = texture.get("file")
        for prop in node.iter("prop"):
            if prop.get("actor") and prop.get("attachpoint") == "root":
                props.append(prop.get("actor"))

    def parts(self, actor, depth=0):
        path = os.path.join(self.root, "actors", actor)
        if not os.path.exists(path) or depth > 2:
            return []
        found, props = {}, []
        for group in ET.parse(path).getroot().iter("group"):
            variants = [v for v in group.findall("variant") if v.get("frequency") != "0"]
            if variants:
                self.collect(variants[0], found, props)
        parts = []
        if "mesh" in found and "skin" in found:
            mesh = self.cached("meshes", found["mesh"])
            skin = self.cached("textures/skins", found["skin"])
            if mesh and skin:
                parts.append(read_pmd(mesh) + (skin, (0.8, 0.8, 0.8)))
        for prop in props:
            parts += self.parts(prop, depth + 1)
        return parts


def convert_0ad(root, out_dir):
    actors_dir = os.path.join(root, "art", "actors")
    actors = Actors(root)
    for family in ("fauna", "flora/trees", "structures"):
        for folder, _, names in sorted(os.walk(os.path.join(actors_dir, family))):
            for name in sorted(names):
                if not name.endswith(".xml") or re.match("fndn_|destruct_|plot_", name):
                    continue                               # foundations, rubble and fields
                actor = os.path.relpath(os.path.join(folder, name), actors_dir)
                try:
                    parts = actors.parts(actor)
                except (ValueError, ET.ParseError, OSError, struct.error) as error:
                    print("skipped %s: %s" % (actor, error))
                    continue
                if parts:
                    write_obj(os.path.join(out_dir, os.path.dirname(actor)), name[:-4], parts)


# ---- FlightGear --------------------------------------------------------------------------------

def read_ac3d(path):
    """Parts of an AC3D file: one per object that has faces."""
    with open(path, errors="replace") as f:
        lines = f.read().split("\n")
    if not lines[0].startswith("AC3D"):
        raise ValueError("not an AC3D file: " + path)
    materials, parts, at = [], [], 1

    def read_object(at, offset):
        location, points, coords, faces, texture, kids = list(offset), [], [], [], None, 0
        name, colour = "", (0.8, 0.8, 0.8)
        while at < len(lines):
            words = lines[at].split()
            at += 1
            if not words:
                continue
            if words[0] == "data":
                at += 1
            elif words[0] == "name":
                name = lines[at - 1].split('"')[1] if '"' in lines[at - 1] else words[-1]
            elif words[0] == "loc":
                location = [a + float(b) for a, b in zip(offset, words[1:4])]
            elif words[0] == "texture":
                texture = os.path.join(os.path.dirname(path), lines[at - 1].split('"')[1])
            elif words[0] == "numvert":
                for i in range(int(words[1])):
                    xyz = [float(w) for w in lines[at + i].split()[:3]]
                    points.append([a + b for a, b in zip(xyz, location)])
                at += int(words[1])
            elif words[0] == "SURF":
                line_kind = int(words[1], 16) & 15
            elif words[0] == "mat" and int(words[1]) < len(materials):
                colour = materials[int(words[1])]
            elif words[0] == "refs":
                face = []
                for i in range(int(words[1])):
                    corner = lines[at + i].split()
                    coords.append((float(corner[1]), float(corner[2])))
                    face.append((int(corner[0]), len(coords) - 1))
                at += int(words[1])
                if line_kind == 0 and len(face) >= 3:
                    faces.append(face)
            elif words[0] == "kids":
                kids = int(words[1])
                break
        if texture and not os.path.exists(texture):
            texture = None
        skip = re.search(r"shadow|light|glow|propdisc|prop\.?disc|blur|flash|contrail|strobe",
                         name, re.I)
        if faces and not skip:
            parts.append((points, None, coords, faces, texture, colour))
        for _ in range(kids):
            while at < len(lines) and not lines[at].startswith("OBJECT"):
                at += 1
            at = read_object(at + 1, location)
        return at

    while at < len(lines):
        words = lines[at].split()
        at += 1
        if words and words[0] == "MATERIAL":
            i = words.index("rgb")
            materials.append(tuple(float(w) for w in words[i + 1:i + 4]))
        elif words and words[0] == "OBJECT":
            at = read_object(at, [0.0, 0.0, 0.0])
    return parts


def convert_flightgear(root, out_dir):
    jobs = []
    models = os.path.join(root, "Models")
    for family in ("Residential", "Commercial", "Agriculture", "Buildings", "Maritime/Civilian",
                   "Maritime/Military", "Transport"):
        folder = os.path.join(models, family)
        jobs += [(os.path.join(folder, n), family, n[:-3]) for n in sorted(os.listdir(folder))
                 if n.endswith(".ac")]
    aircraft = os.path.join(root, "AI", "Aircraft")
    for name in sorted(os.listdir(aircraft)):
        files = []
        for folder, _, names in os.walk(os.path.join(aircraft, name)):
            files += [os.path.join(folder, n) for n in names if n.endswith(".ac")]
        if files:                                   # the largest file is the airframe
            jobs.append((max(sorted(files), key=os.path.getsize), "Aircraft", name))
    for path, family, name in jobs:
        try:
            parts = read_ac3d(path)
            if parts:
                write_obj(os.path.join(out_dir, family), re.sub(r"[^\w.-]", "_", name), parts)
        except (ValueError, IndexError, OSError) as error:
            print("skipped %s: %s" % (path, error))


if __name__ == "__main__":
    converters = {"0ad": convert_0ad, "flightgear": convert_flightgear}
    if len(sys.argv) != 4 or sys.argv[1] not in converters:
        sys.exit(__doc__)
    converters[sys.argv[1]](sys.argv[2], sys.argv[3])
