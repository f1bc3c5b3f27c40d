#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch networks to race against, under our model names: timm's where timm has the name, else
those of tools/fixtures, which are written for clarity, with their slow parts written for speed.

  networks.py [NAME ...]    compares each with its fixture network on hashed weights

  neighborhood attention   queries in tiles, each with the keys that a tile can meet (a gather),
                           through scaled_dot_product_attention with the position bias and what a
                           query doesn't see as its mask; second form: flex_attention, which needs
                           torch.compile, on tokens ordered so that its blocks are compact; third
                           form: NATTEN, where it is installed; 0.17 has a position bias, 0.21 none
  windows, HiLo            all windows at once through scaled_dot_product_attention
  linear attention         keys times values first
  deformable convolution   samples by grid_sample, then a product; second form: torchvision's

build() first, then fill() or other weights, the type and the device, then prepare(), which makes
the tables of a size. Attention keeps its position bias there: no weights may change afterwards.
"""
import functools
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "fixtures"))

import dinat
import golden
import l2vit
import litv2
import mixed
import reference
import van

try:
    import natten
    natten_has_bias = not callable(natten.na2d)  # in 0.17 that is a module
    if natten_has_bias:
        import natten.experimental  # the operation that compilers know
except ImportError:
    natten = None
try:
    from torchvision.ops import deform_conv2d
except ImportError:
    deform_conv2d = None

sdpa = F.scaled_dot_product_attention
LIMIT = 1e-4  # of max|logit|, against the fixture network


# --- neighborhood attention -----------------------------------------------------------------------

def tiles_of_axis(length, window, dilation, tile):
    """Tiles of queries, each of one sub-grid: places of the queries [tiles, queries] and of the
    keys [tiles, keys], offsets in the position table [tiles, queries, keys] (-1: doesn't see).
    The last tile of a sub-grid repeats its last query; keys that aren't there are place 0, -1."""
    places, keys, offsets = [], [], []
    longest = -(-length // dilation)
    tile = longest if longest <= 2 * tile else tile
    reach = min(tile + window - 1, longest)
    for residue in range(min(dilation, length)):
        grid = list(range(residue, length, dilation))
        for a in range(0, len(grid), tile):
            first = min(max(a - window // 2, 0), max(len(grid) - reach, 0))
            seen = range(first, min(first + reach, len(grid)))
            queries = [min(a + i, len(grid) - 1) for i in range(tile)]
            starts = [min(max(p - window // 2, 0), len(grid) - window) for p in queries]
            missing = reach - len(seen)
            places.append([grid[p] for p in queries])
            keys.append([grid[t] for t in seen] + [0] * missing)
            offsets.append([[t - p + window - 1 if s <= t < s + window else -1 for t in seen]
                            + [-1] * missing for p, s in zip(queries, starts)])
    return torch.tensor(places), torch.tensor(keys), torch.tensor(offsets)


def pairs(rows, cols, width):
    """Tokens [tiles, n] of a map from places [tiles of an axis, n of an axis] of its axes."""
    token = rows[:, None, :, None] * width + cols[None, :, None, :]
    return token.flatten(2).flatten(0, 1)


class Neighborhood(dinat.Attention):
    """The attention's two fast forms. `size`: the padded map that the tables are made for."""
    tile, size = 7, None

    def forward(self, x):
        h, w, least = *x.shape[1:3], self.window * self.dilation
        if h < least or w < least:
            x = F.pad(x, (0, 0, 0, max(0, least - w), 0, max(0, least - h)))
        if self.size != tuple(x.shape[1:3]):
            self.size = tuple(x.shape[1:3])
            self.make_tables(*self.size)
        return self.proj(self.attend(x))[:, :h, :w]

    def keep(self, name, tensor):
        self.register_buffer(name, tensor.to(self.rpb.device), persistent=False)

    def make_tables(self, h, w):
        (qy, ky, oy), (qx, kx, ox) = (tiles_of_axis(n, self.window, self.dilation, self.tile)
                                      for n in (h, w))
        oy, ox = oy[:, None, :, None, :, None], ox[None, :, None, :, None, :]
        bias = self.rpb.detach()[:, oy.clamp(min=0), ox.clamp(min=0)]
        bias = bias.masked_fill(((oy < 0) | (ox < 0)).to(bias.device), -torch.inf)
        bias = bias.flatten(5).flatten(3, 4).flatten(1, 2).transpose(0, 1)
        queries, keys = pairs(qy, qx, w), pairs(ky, kx, w)
        heads = torch.arange(self.heads)[:, None]

        def rows(tokens, part):  # of qkv [tokens, 3, heads], for [tiles, heads, tokens]
            return ((tokens[:, None] * 3 + part) * self.heads + heads).flatten()

        back = torch.empty(h * w, self.heads, dtype=torch.long)
        back[queries[:, None], heads] = torch.arange(
            queries.numel() * self.heads).view(len(queries), self.heads, -1)
        for part, tokens in enumerate((queries, keys, keys)):
            self.keep("qkv"[part] + "_rows", rows(tokens, part))
        self.keep("bias", bias.flatten(0, 1)[None].contiguous())
        self.keep("back", back.flatten())

    def attend(self, x):
        n, h, w, c = x.shape
        rows = self.qkv(x).view(n, -1, c // self.heads)
        q, k, v = (rows[:, i].view(n, self.bias.shape[1], -1, c // self.heads)
                   for i in (self.q_rows, self.k_rows, self.v_rows))
        y = sdpa(q, k, v, attn_mask=self.bias).flatten(1, 2)
        return y[:, self.back].view(n, h, w, c)


def compact_order(h, w, dilation, side=8):
    """All tokens, sub-grid after sub-grid, each in tiles of side x side."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    order = torch.zeros(h, w, dtype=torch.long)
    for part in (y % dilation, x % dilation, y // dilation // side, x // dilation // side,
                 y // dilation % side, x // dilation % side):
        order = order * (max(h, w) + 1) + part
    return order.flatten().argsort()


def axis_tables(place, length, window, dilation):
    """Of tokens at these places of an axis: sub-grid, place in it, the first key's place in it."""
    grid, place = place % dilation, place // dilation
    last = (length - 1 - grid) // dilation + 1 - window
    return [t.int() for t in (grid, place, torch.minimum((place - window // 2).clamp(min=0), last))]


@functools.cache
def flex_tables(h, w, window, dilation, device, block=128):
    """The tokens' order, its inverse, their places in their sub-grids, and who sees whom. Blocks
    with the same map share them."""
    from torch.nn.attention.flex_attention import create_block_mask
    order = compact_order(h, w, dilation)
    back = order.argsort().to(device)
    ys = [t.to(device) for t in axis_tables(order // w, h, window, dilation)]
    xs = [t.to(device) for t in axis_tables(order % w, w, window, dilation)]

    def sees(b, head, q, k):
        near = (ys[0][q] == ys[0][k]) & (xs[0][q] == xs[0][k])
        dy, dx = ys[1][k] - ys[2][q], xs[1][k] - xs[2][q]
        return near & (dy >= 0) & (dy < window) & (dx >= 0) & (dx < window)

    mask = create_block_mask(sees, None, None, h * w, h * w, device=device, BLOCK_SIZE=block)
    return order.to(device), back, ys[1], xs[1], mask


def flex_neighborhood(q, k, v, rpb, ys, xs, mask, **options):
    """q, k, v [n,heads,tokens,d] in the tables' order."""
    from torch.nn.attention.flex_attention import flex_attention
    reach = rpb.shape[-1] // 2

    def add_bias(score, b, head, q, k):
        dy, dx = ((t[k] - t[q] + reach).clamp(0, 2 * reach) for t in (ys, xs))
        return score + rpb[head, dy, dx]

    return flex_attention(q, k, v, score_mod=add_bias, block_mask=mask, **options)


class FlexNeighborhood(Neighborhood):
    def make_tables(self, h, w):
        *tables, self.block_mask = flex_tables(h, w, self.window, self.dilation,
                                               str(self.rpb.device), 64)
        for name, table in zip(("order", "back", "ys", "xs"), tables):
            self.keep(name, table)

    def attend(self, x):
        n, h, w, c = x.shape
        qkv = self.qkv(x.flatten(1, 2)[:, self.order]).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = flex_neighborhood(q, k, v, self.rpb, self.ys, self.xs, self.block_mask,
                              kernel_options={"FORCE_USE_FLEX_ATTENTION": True})
        return y.transpose(1, 2).flatten(2)[:, self.back].view(n, h, w, c)


def graph_ms(run, count=20):
    """Median milliseconds of what run() starts on the GPU, replayed as a CUDA graph."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(count + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times[3:])[count // 2]


def natten_settings(q, k, v, window):
    """What NATTEN can be asked for here. Maps as small as the window go to its plain attention."""
    if natten_has_bias:
        from natten.autotuner.fna_forward import get_all_tiling_configs_for_fna_forward
        return [{"tiles": t} for t in get_all_tiling_configs_for_fna_forward(2, q, (1, 1))]
    if q.shape[1:3] == (window, window):
        return [{}, {"attention_kwargs": {"backend": "cutlass-fmha"}}]
    hopper = natten.get_configs_for_cutlass_hopper_fna(q, k, v)
    plain = natten.get_configs_for_cutlass_fna(q, k, v)
    return [{"backend": "hopper-fna", "q_tile_shape": queries, "kv_tile_shape": keys,
             "kernel_schedule": schedule} for (queries, keys), schedule in hopper] + [
            {"backend": "cutlass-fna", "q_tile_shape": queries, "kv_tile_shape": keys}
            for queries, keys in plain]


def natten_attention(q, k, v, rpb, window, dilation, tiles=((8, 8), (8, 8)), **settings):
    if natten_has_bias:
        return torch.ops.natten.na2d_forward_op(q, k, v, rpb, (window,) * 2, (dilation,) * 2,
                                                (False, False), q.shape[-1] ** -0.5, *tiles)[0]
    return natten.na2d(q, k, v, window, dilation=dilation, **settings)


@functools.cache
def fastest_natten(shape, window, dilation):
    """The fastest settings for q, k and v of this shape [n,h,w,heads,d]."""
    q, k, v = torch.randn(3, *shape, device="cuda", dtype=torch.half)
    rpb = torch.zeros(shape[3], 2 * window - 1, 2 * window - 1, device="cuda", dtype=torch.half)
    times = []
    for settings in natten_settings(q, k, v, window):
        try:
            ms = graph_ms(lambda: natten_attention(q, k, v, rpb, window, dilation, **settings), 5)
            times.append((ms, settings))
        except (RuntimeError, ValueError) as error:
            print(f"NATTEN {settings}: {str(error).splitlines()[0]}", file=sys.stderr)
    return min(times, key=lambda pair: pair[0])[1]


class NattenNeighborhood(Neighborhood):
    """Where NATTEN has no position bias its time counts, its result is another network's.
    Each batch must be seen once before compiling."""

    def make_tables(self, h, w):
        self.settings = {}

    def attend(self, x):
        n, h, w, c = x.shape
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(3)
        if n not in self.settings:
            self.settings[n] = fastest_natten(tuple(q.shape), self.window, self.dilation)
        return natten_attention(q, k, v, self.rpb, self.window, self.dilation,
                                **self.settings[n]).flatten(3)


class Whole(dinat.Whole):
    size = None

    def forward(self, x):
        _, h, w, _ = x.shape
        if self.size != (h, w):
            self.size = (h, w)
            y, z = (t.flatten() for t in torch.meshgrid(torch.arange(h), torch.arange(w),
                                                        indexing="ij"))
            dy, dx = y[None] - y[:, None] + self.window - 1, z[None] - z[:, None] + self.window - 1
            self.register_buffer("bias", self.rpb.detach()[None, :, dy, dx], persistent=False)
        q, k, v = (self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1))
                   .permute(2, 0, 3, 1, 4))
        y = sdpa(q, k, v, attn_mask=self.bias)
        return self.proj(y.transpose(1, 2).flatten(2)).unflatten(1, (h, w))


# --- windows, linear attention, deformable convolution --------------------------------------------

def in_windows(qkv, side, heads):
    """Attention in all side x side windows of qkv [n,h,w,3*c] -> [n,h,w,c]."""
    n, h, w, c = qkv.shape
    qkv = qkv.view(n, h // side, side, w // side, side, 3, heads, c // 3 // heads)
    q, k, v = (qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)
               .reshape(3, -1, heads, side * side, c // 3 // heads))
    y = sdpa(q, k, v).view(n, h // side, w // side, heads, side, side, -1)
    return y.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, h, w, c // 3)


class Windows(l2vit.Windows):
    def forward(self, x):
        _, h, w, _ = x.shape
        if h % self.window or w % self.window:
            x = F.pad(x, (0, 0, 0, -w % self.window, 0, -h % self.window))
        return self.proj(in_windows(self.qkv(x), self.window, self.heads))[:, :h, :w]


class Linear(l2vit.Linear):
    def forward(self, x):
        _, h, w, _ = x.shape
        q, k, v = (self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1))
                   .permute(2, 0, 3, 1, 4))
        q, k = q.relu(), k.relu()
        total = q @ k.sum(2).unsqueeze(-1)
        y = (q @ (k.transpose(-1, -2) @ v)) * (self.temperature / total.clamp(min=100.0))
        return self.proj(y.transpose(1, 2).flatten(2)).unflatten(1, (h, w))


class HiLo(litv2.HiLo):
    def close(self, x):
        return self.h_proj(in_windows(self.h_qkv(x), self.window, self.high))

    def far(self, x):
        means = x
        if self.window > 1:
            means = litv2.on_map(lambda m: F.avg_pool2d(m, self.window), x)
        q = self.l_q(x).flatten(1, 2).unflatten(-1, (self.low, -1)).transpose(1, 2)
        kv = self.l_kv(means).flatten(1, 2).unflatten(-1, (2, self.low, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)
        return self.l_proj(sdpa(q, k, v).transpose(1, 2).flatten(2)).unflatten(1, x.shape[1:3])

    def forward(self, x):
        _, h, w, _ = x.shape
        if h % self.window or w % self.window:
            x = F.pad(x, (0, 0, 0, -w % self.window, 0, -h % self.window))
        parts = [self.close(x)] if self.high else []
        parts += [self.far(x)] if self.low else []
        return (torch.cat(parts, -1) if len(parts) > 1 else parts[0])[:, :h, :w]


class DeformConv(litv2.DeformConv):
    """Through grid_sample: compilers and exporters know it, and it was faster on a CPU."""

    def forward(self, x):
        return litv2.on_map(self.sampled, x)

    def sampled(self, x):  # [n,c,h,w]; places in float32, at which bfloat16 would be too coarse
        n, c, h, w = x.shape
        offset = self.conv_offset(x).float().view(n, 2, 2, 2, h // 2, w // 2)
        y, z = (torch.arange(length, dtype=torch.float32, device=x.device).view(-1, 2).T
                for length in (h // 2 * 2, w // 2 * 2))  # [tap, place]
        py = offset[:, :, :, 0] + y[:, None, :, None]
        px = offset[:, :, :, 1] + z[None, :, None, :]
        grid = torch.stack([(2 * px + 1) / w - 1, (2 * py + 1) / h - 1], -1).view(n, -1, w // 2, 2)
        samples = F.grid_sample(x.float(), grid, align_corners=False).to(x.dtype)
        samples = samples.view(n, c, 4, h // 2, w // 2).permute(0, 3, 4, 1, 2).flatten(3)
        return F.linear(samples, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class TorchvisionDeformConv(litv2.DeformConv):
    def forward(self, x):
        return litv2.on_map(lambda m: deform_conv2d(m, self.conv_offset(m), self.weight, self.bias,
                                                    stride=2), x)


# --- networks by name -----------------------------------------------------------------------------

FAST = {dinat.Attention: Neighborhood, dinat.Whole: Whole, l2vit.Windows: Windows,
        l2vit.Linear: Linear, litv2.HiLo: HiLo, litv2.DeformConv: DeformConv}
FORMS = {"second": {dinat.Attention: FlexNeighborhood}, "natten": {}}
if deform_conv2d:
    FORMS["second"][litv2.DeformConv] = TorchvisionDeformConv
if natten:
    FORMS["natten"][dinat.Attention] = NattenNeighborhood


def fixture(name):
    """The network of tools/fixtures, in the naming of its checkpoints, eval mode."""
    for module in (dinat, litv2, l2vit):
        if name in module.CONFIGS:
            return module.Network(name).eval()
    if name in van.SIZES:
        return van.build(name)
    if name == "mixed_neighborhood_linear":
        return mixed.Network().eval()
    raise SystemExit(f"neither timm nor tools/fixtures has a network '{name}'")


def in_timm(name):
    try:
        import timm
    except ImportError:
        return False
    return timm.is_model(name)


def build(name, form=None):
    """The network in eval mode; `form`: one of FORMS, where has_form()."""
    if in_timm(name):
        import timm
        return timm.create_model(name, pretrained=False).eval()
    # Convolutions in NHWC, which are faster: everything but VAN holds its maps so anyway.
    net = fixture(name).to(memory_format=torch.channels_last)
    fast = FAST | FORMS.get(form, {})
    for module in net.modules():
        module.__class__ = fast.get(type(module), type(module))
    return net


def has_form(name, form):
    return not in_timm(name) and any(type(m) in FORMS[form] for m in fixture(name).modules())


def size(name, net):
    """Rows and columns of the pictures that the network is published for."""
    if hasattr(net, "default_cfg"):
        return net.default_cfg["input_size"][-1]
    return 384 if "384" in name else 64 if "fashion" in name else 224


def fill(net):
    """Weights that are hashes of their names (tools/fixtures/golden.py)."""
    return reference.fill(net)


@torch.no_grad()
def prepare(net, picture):
    """One run, after which the tables of this size are there. Flex attention runs uncompiled."""
    net(picture)


@torch.no_grad()
def errors(name, h, w):
    """Largest difference from the fixture network, in parts of max|logit|, of each form."""
    plain = fixture(name)
    state = {key: torch.from_numpy(array) for key, array in fill(plain).items()}
    x = torch.from_numpy(golden.picture(1, h, w))
    want = plain(x)
    for form in (None, "second") if has_form(name, "second") else (None,):
        net = build(name, form)
        net.load_state_dict(state)
        yield f" {form} form" if form else "", float((net(x) - want).abs().max() / want.abs().max())


def main(names):
    torch.set_num_threads(1)
    failed = False
    for name in names or ["nat_mini", "dinat_mini", "litv2_s", "L2ViT_Tiny", "van_b0"]:
        for h, w in ((224, 224), (101, 150)):
            for form, error in errors(name, h, w):
                failed |= not error <= LIMIT
                print(f"{name} {h}x{w}{form}: {error:.1e} of max|logit|", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
