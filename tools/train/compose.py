"""Make training pictures on the accelerator: cut-outs pasted on backgrounds, then degraded.

Everything is batched tensor arithmetic in [0, 1] RGB, so that one device makes tens of thousands of
pictures a second and no loader is needed. All shapes are fixed for a given batch size, which lets
torch.compile fuse the whole chain.
"""

import io
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

CANVAS = 192               # side of a stored cut-out; its longer side fills it
PHOTO = 256                # side of stored photographs and backgrounds
SIZE = 224                 # side of the pictures made

# Share of a class's samples by kind (photo, photo cut-out, render, drawing), before it is scaled
# by the square root of how many pictures of that kind the class has.
KIND_WEIGHT = (4.0, 5.0, 2.0, 0.7)

# Luminance quantisation table of JPEG, used for both brightness and colour.
JPEG_TABLE = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
              14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
              18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
              49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]


def load_pack(path):
    """Decode one packed file: cut-outs [N, 4, CANVAS, CANVAS], wholes [M, 3, PHOTO, PHOTO]."""
    with np.load(path) as pack:
        data = {name: pack[name] for name in pack.files}
    ends = data["end"]
    starts = np.concatenate([[0], ends[:-1]])
    whole = (data["aspect"] > 0) | (data["label"] < 0)

    def decode(i):
        picture = Image.open(io.BytesIO(data["blob"][starts[i]:ends[i]].tobytes()))
        if whole[i]:
            return np.asarray(picture.convert("RGB"))
        picture = picture.convert("RGBA")
        scale = CANVAS / max(picture.size)
        size = [max(1, round(s * scale)) for s in picture.size]
        canvas = Image.new("RGBA", (CANVAS, CANVAS))
        canvas.paste(picture.resize(size, Image.BICUBIC),
                     ((CANVAS - size[0]) // 2, (CANVAS - size[1]) // 2))
        return np.asarray(canvas)

    with ThreadPoolExecutor(16) as pool:
        pictures = list(pool.map(decode, range(len(ends))))

    def stack(keep, channels, side):
        chosen = [pictures[i] for i in np.flatnonzero(keep)]
        array = np.stack(chosen) if chosen else np.zeros((0, side, side, channels), np.uint8)
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()

    out = {"cutouts": stack(~whole, 4, CANVAS), "wholes": stack(whole, 3, PHOTO)}
    for name in ("label", "kind", "aspect"):
        values = torch.from_numpy(data[name])
        out["cutout_" + name] = values[torch.from_numpy(~whole)].long()
        out["whole_" + name] = values[torch.from_numpy(whole)]
    out["whole_label"] = out["whole_label"].long()
    out["whole_kind"] = out["whole_kind"].long()
    return out


def sampling_weights(labels, kinds, class_power=0.0):
    """Classes as often as their counts to `class_power` say, which is alike for 0; within a class,
    kinds by KIND_WEIGHT and the root of their counts."""
    weights = torch.zeros(len(labels), dtype=torch.float64)
    for label in labels.unique():
        of_class = labels == label
        for kind in range(4):
            mine = of_class & (kinds == kind)
            count = int(mine.sum())
            if count:
                weights[mine] = KIND_WEIGHT[kind] * math.sqrt(count) / count
        weights[of_class] *= float(of_class.sum()) ** class_power / weights[of_class].sum()
    return weights.float()


def uniform(n, low, high, device):
    return torch.rand(n, device=device) * (high - low) + low


def chance(n, p, device):
    return (torch.rand(n, device=device) < p).float()


def column(values):
    return values.view(-1, 1, 1, 1)


def warp(pictures, scale_x, scale_y, angle, shift_x, shift_y, tilt=None):
    """Sample SIZE x SIZE views: the picture drawn `scale` times the frame, turned and shifted."""
    c, s = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([
        torch.stack([c / scale_x, s / scale_x, -(c * shift_x + s * shift_y) / scale_x], 1),
        torch.stack([-s / scale_y, c / scale_y, (s * shift_x - c * shift_y) / scale_y], 1)], 1)
    grid = F.affine_grid(matrix, [len(pictures), 1, SIZE, SIZE], align_corners=False)
    if tilt is not None:
        depth = 1 + (grid * tilt.view(-1, 1, 1, 2)).sum(-1, keepdim=True)
        grid = grid / depth.clamp_min(0.3)
    return F.grid_sample(pictures, grid, align_corners=False, padding_mode="zeros")


def jitter(rgb, brightness, contrast, saturation, hue, gamma):
    """Per-picture colour change; every strength is the half width of a uniform draw."""
    n, device = len(rgb), rgb.device

    def draw(strength):
        return column(torch.exp(uniform(n, -strength, strength, device)))

    rgb = rgb.clamp(1e-4, 1) ** draw(gamma)
    rgb = rgb * draw(brightness)
    mean = rgb.mean((1, 2, 3), keepdim=True)
    rgb = (rgb - mean) * draw(contrast) + mean
    # saturation and hue: scale and rotate the two colour-difference axes (YIQ)
    y = 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]
    i = 0.596 * rgb[:, 0] - 0.274 * rgb[:, 1] - 0.322 * rgb[:, 2]
    q = 0.211 * rgb[:, 0] - 0.523 * rgb[:, 1] + 0.312 * rgb[:, 2]
    angle = uniform(n, -hue, hue, device).view(-1, 1, 1)
    amount = torch.exp(uniform(n, -saturation, saturation, device)).view(-1, 1, 1)
    i, q = (amount * (i * torch.cos(angle) - q * torch.sin(angle)),
            amount * (i * torch.sin(angle) + q * torch.cos(angle)))
    return torch.stack([y + 0.956 * i + 0.621 * q, y - 0.272 * i - 0.647 * q,
                        y - 1.106 * i + 1.703 * q], 1).clamp(0, 1)


def blur(pictures, sigma):
    radius = max(1, int(2.5 * sigma))
    x = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-x * x / (2 * sigma * sigma))
    kernel = kernel / kernel.sum()
    channels = pictures.shape[1]
    pictures = F.pad(pictures, [radius] * 4, mode="replicate")
    pictures = F.conv2d(pictures, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1),
                        groups=channels)
    return F.conv2d(pictures, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1),
                    groups=channels)


def maybe(pictures, changed, p):
    """`changed` for a share p of the pictures, mixed in by a random amount."""
    n, device = len(pictures), pictures.device
    amount = chance(n, p, device) * uniform(n, 0.3, 1, device)
    return pictures + column(amount) * (changed - pictures)


class Composer:
    """Draws labelled pictures from a decoded pack and its backgrounds."""

    def __init__(self, pack, backgrounds, device):
        self.device = device
        self.pack = {name: value.to(device) for name, value in pack.items()}
        self.backgrounds = backgrounds["wholes"].to(device)
        self.cutout_weights = sampling_weights(pack["cutout_label"], pack["cutout_kind"]).to(device)
        # many classes have a photograph or two, which should not be seen as often as forty others
        self.whole_weights = sampling_weights(pack["whole_label"], pack["whole_kind"],
                                              0.5).to(device)
        x = torch.arange(8, dtype=torch.float32)
        basis = torch.cos((2 * x[None] + 1) * x[:, None] * math.pi / 16) / 2
        basis[0] /= math.sqrt(2)
        self.dct = basis.to(device)
        self.table = torch.tensor(JPEG_TABLE, dtype=torch.float32, device=device).view(8, 8) / 255

    # -- parts -----------------------------------------------------------------------------------

    def make_backgrounds(self, n):
        """Crops of backgrounds; some split in two (wall and floor), some plain or blurred."""
        device = self.device

        def crops():
            index = torch.randint(len(self.backgrounds), (n,), device=device)
            scale = 1 / torch.sqrt(uniform(n, 0.08, 0.9, device))
            room = (scale - 1.02).clamp_min(0)
            flip = 1 - 2 * chance(n, 0.5, device)
            picture = warp(self.backgrounds[index].float() / 255, scale * flip, scale,
                           torch.zeros(n, device=device), uniform(n, -1, 1, device) * room,
                           uniform(n, -1, 1, device) * room)
            return jitter(picture, 0.25, 0.25, 0.4, 0.5, 0.3)

        first, second = crops(), crops()
        line = torch.linspace(-1, 1, SIZE, device=device)
        slope = column(uniform(n, -0.3, 0.3, device))
        height = column(uniform(n, -0.3, 1.8, device))
        floor = torch.sigmoid((line.view(1, 1, -1, 1) + slope * line.view(1, 1, 1, -1) - height)
                              * 120)
        picture = first + floor * (second - first)
        ramp = torch.rand(n, 3, 2, 2, device=device)
        gradient = F.interpolate(ramp, size=(SIZE, SIZE), mode="bilinear", align_corners=True)
        plain = column(chance(n, 0.5, device))
        colour = torch.rand(n, 3, 1, 1, device=device)
        bright = column(chance(n, 0.4, device))
        colour = bright * (0.85 + 0.15 * colour) + (1 - bright) * colour
        flat = plain * colour + (1 - plain) * gradient
        picture = picture + column(chance(n, 0.18, device)) * (flat - picture)
        return maybe(picture, blur(picture, 4.0), 0.35)

    def place(self, cutouts, scale, shift_x, shift_y, spin):
        """Cut-outs with changed colours, drawn at the given scale: colour times alpha, alpha."""
        n, device = len(cutouts), self.device
        rgba = cutouts.float() / 255
        # small copies would alias: smooth the source first
        small = column((scale < 0.55).float())
        smooth = F.avg_pool2d(F.pad(rgba, [1, 1, 1, 1]), 3, 1)
        alpha = rgba[:, 3:] + small * (smooth[:, 3:] - rgba[:, 3:])
        rgb = jitter(rgba[:, :3], 0.3, 0.3, 0.35, 0.25, 0.3)
        drawn = torch.cat([rgb * alpha, alpha], 1)
        drawn = drawn + small * (F.avg_pool2d(F.pad(drawn, [1, 1, 1, 1]), 3, 1) - drawn)
        stretch = torch.exp(uniform(n, -0.15, 0.15, device))
        flip = 1 - 2 * chance(n, 0.5, device)
        turn = torch.randn(n, device=device) * spin
        anywhere = chance(n, 0.08, device)
        turn = turn + anywhere * uniform(n, -math.pi, math.pi, device)
        tilt = torch.stack([uniform(n, -0.15, 0.15, device), uniform(n, -0.15, 0.15, device)], 1)
        return warp(drawn, scale * stretch * flip, scale / stretch, turn, shift_x, shift_y, tilt)

    def paste(self, picture, drawn):
        return picture * (1 - drawn[:, 3:]) + drawn[:, :3]

    def strays(self, n, low, high, reach):
        """Other objects, drawn at `low` to `high` times the frame, to put behind or before."""
        device = self.device
        other = torch.multinomial(self.cutout_weights, n, replacement=True)
        return self.place(self.pack["cutouts"][other], uniform(n, low, high, device),
                          uniform(n, -reach, reach, device), uniform(n, -reach, reach, device), 0.3)

    def cutout_pictures(self, index):
        """For each chosen cut-out: background, something behind, shadow, object, occluder.

        A picture's place in the batch is random already, so what a share of the pictures gets is
        made for the first or the last of them only, which saves time."""
        n, device = len(index), self.device
        grounds = self.make_backgrounds((n + 1) // 2)
        # each serves twice, behind different objects
        picture = torch.cat([grounds, grounds.flip(3)])[:n]
        behind = n // 4
        picture = torch.cat([self.paste(picture[:behind], self.strays(behind, 0.15, 0.45, 0.95)),
                             picture[behind:]])
        # from a third of the frame to a close-up that shows only a part
        scale = torch.exp(uniform(n, math.log(0.33), math.log(2.0), device))
        room = 0.1 + 0.75 * (1 - scale).abs()
        drawn = self.place(self.pack["cutouts"][index], scale, uniform(n, -1, 1, device) * room,
                           uniform(n, -1, 1, device) * room, 0.2)
        feather = F.avg_pool2d(drawn, 3, 1, 1)
        drawn = drawn + column(chance(n, 0.5, device)) * (feather - drawn)
        shadow = blur(drawn[:, 3:], 6.0)
        shadow = torch.roll(shadow, (7, 4), (2, 3))
        picture = picture * (1 - column(chance(n, 0.4, device) * uniform(n, 0.2, 0.7, device))
                             * shadow)
        picture = self.paste(picture, drawn)
        free = n - n // 5
        occluders = torch.roll(self.strays(n - free, 0.15, 0.35, 0.3), (SIZE // 3, SIZE // 3),
                               (2, 3))
        return torch.cat([picture[:free], self.paste(picture[free:], occluders)])

    def whole_pictures(self, index):
        """Random crops of whole photographs, with their own proportions."""
        n, device = len(index), self.device
        aspect = self.pack["whole_aspect"][index].float()
        area = uniform(n, 0.25, 1, device)
        ratio = torch.exp(uniform(n, -0.3, 0.3, device))
        # a crop of `area` of the picture with sides in proportion `ratio`, in picture units
        width = torch.sqrt(area * ratio / aspect).clamp(0.2, 1)
        height = torch.sqrt(area / ratio * aspect).clamp(0.2, 1)
        flip = 1 - 2 * chance(n, 0.5, device)
        # objects are near the middle more often than at the border
        x = (uniform(n, -1, 1, device) + uniform(n, -1, 1, device)) / 2 * (1 / width - 1)
        y = (uniform(n, -1, 1, device) + uniform(n, -1, 1, device)) / 2 * (1 / height - 1)
        turn = torch.randn(n, device=device) * 0.08
        # mirrored borders so that turned crops show no black corners
        picture = F.pad(self.pack["wholes"][index].float() / 255, [64] * 4, mode="reflect")
        grow = (PHOTO + 128) / PHOTO
        return warp(picture, grow / width * flip, grow / height, turn, x, y)

    def jpeg(self, picture):
        """Round the 8 x 8 cosine coefficients as a JPEG encoder of random quality would."""
        n, blocks = len(picture), SIZE // 8
        coarse = torch.exp(uniform(n, math.log(0.5), math.log(5), self.device))
        step = self.table * coarse.view(-1, 1, 1, 1, 1, 1)
        tiles = picture.view(n, 3, blocks, 8, blocks, 8).permute(0, 1, 2, 4, 3, 5)
        freq = self.dct @ tiles @ self.dct.T
        freq = torch.round(freq / step) * step
        tiles = self.dct.T @ freq @ self.dct
        return tiles.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, SIZE, SIZE)

    def degrade(self, picture):
        """Camera, file and occlusion effects for the finished picture."""
        n, device = len(picture), self.device
        picture = jitter(picture, 0.25, 0.3, 0.4, 0.12, 0.35)
        grey = column(chance(n, 0.12, device))
        picture = picture + grey * (picture.mean(1, keepdim=True) - picture)
        picture = maybe(picture, blur(picture, 1.6), 0.25)
        for shrink, p in ((2, 0.15), (4, 0.15)):          # small files, enlarged
            low = F.interpolate(F.avg_pool2d(picture, shrink), scale_factor=float(shrink),
                                mode="bilinear", align_corners=False)
            picture = picture + column(chance(n, p, device)) * (low - picture)
        noise = column(chance(n, 0.25, device) * uniform(n, 0.01, 0.09, device))
        picture = (picture + noise * torch.randn_like(picture)).clamp(0, 1)
        jpeg = column(chance(n, 0.35, device))
        picture = (picture + jpeg * (self.jpeg(picture) - picture)).clamp(0, 1)
        # erase a rectangle
        y = torch.linspace(0, 1, SIZE, device=device).view(1, 1, -1, 1)
        x = torch.linspace(0, 1, SIZE, device=device).view(1, 1, 1, -1)
        x0, y0 = column(torch.rand(n, device=device)), column(torch.rand(n, device=device))
        w, h = column(uniform(n, 0.1, 0.4, device)), column(uniform(n, 0.1, 0.4, device))
        hole = ((x > x0) & (x < x0 + w) & (y > y0) & (y < y0 + h)).float()
        hole = hole * column(chance(n, 0.2, device))
        return picture * (1 - hole) + hole * torch.rand(n, 3, 1, 1, device=device)

    # -- batches ---------------------------------------------------------------------------------

    def draw(self, cutouts, wholes):
        """Indices of a training batch."""
        a = torch.multinomial(self.cutout_weights, cutouts, replacement=True)
        b = torch.multinomial(self.whole_weights, wholes, replacement=True)
        return a, b

    def batch(self, a, b):
        """Training pictures and labels: cut-outs `a` on backgrounds, photographs `b` cropped."""
        pictures = torch.cat([self.cutout_pictures(a), self.whole_pictures(b)])
        labels = torch.cat([self.pack["cutout_label"][a], self.pack["whole_label"][b]])
        return self.degrade(pictures), labels

    def held_out(self, a):
        """Held-out cut-outs on held-out backgrounds, with mild degradation."""
        n = len(a)
        picture = self.make_backgrounds(n)
        scale = uniform(n, 0.5, 0.95, self.device)
        room = 1 - scale
        drawn = self.place(self.pack["cutouts"][a], scale,
                           uniform(n, -1, 1, self.device) * room,
                           uniform(n, -1, 1, self.device) * room, 0.1)
        picture = self.paste(picture, drawn)
        return jitter(picture, 0.15, 0.15, 0.15, 0.03, 0.1)
