# SPDX-License-Identifier: Apache-2.0
"""The six small networks that fashion.py trains.

They are the references of tools/fixtures with the canonical names of their parameters; where those
go through windows or keys one by one, a module of the same parameters takes them all at once here.
check() compares the two.
"""
import sys
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

import davit  # noqa: E402
import dinat  # noqa: E402
import l2vit  # noqa: E402
import litv2  # noqa: E402
import maxvit  # noqa: E402
import van  # noqa: E402

NAMES = {  # what each of them is there to show
    "dinat_fashion": "neighborhood attention, dilated",
    "maxvit_fashion": "multi-axis attention",
    "litv2_fashion": "HiLo attention, deformable convolution",
    "l2vit_fashion": "linear attention with local concentration",
    "van_fashion": "large kernel attention",
    "davit_fashion": "window and channel attention",
}


def windows(x, side):
    """[n,h,w,c] -> [n * windows, side * side, c]"""
    n, h, w, c = x.shape
    x = x.reshape(n, h // side, side, w // side, side, c).transpose(2, 3)
    return x.reshape(-1, side * side, c)


def unwindows(x, side, h, w):
    x = x.reshape(-1, h // side, w // side, side, side, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, h, w, x.shape[-1])


def attend(qkv, heads):
    """[n, tokens, 3 * width] -> [n, tokens, width]"""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@lru_cache
@torch.inference_mode(False)  # what is kept serves training too
def neighbours(h, w, window, dilation, device):
    """For each (query, key) of a map of n tokens: which place of the position table counts, as
    ones in [places, n * n], and minus infinity in [n, n] where the key is no neighbour."""
    side, axes = 2 * window - 1, []
    for length in (h, w):
        places, offsets = dinat.keys_of_axis(length, window, dilation)
        axes.append(torch.full((length, length), -1).scatter_(1, places, offsets))
    y, x = axes[0][:, None, :, None], axes[1][None, :, None, :]
    near = ((y >= 0) & (x >= 0)).reshape(h * w, h * w)
    place = (y * side + x).reshape(-1)
    ones = ((place == torch.arange(side * side)[:, None]) & near.reshape(-1)).float()
    return ones.to(device), torch.where(near, 0.0, -torch.inf).to(device)


class Neighborhood(dinat.Attention):
    """All queries with all keys; what is no neighbour has the bias minus infinity."""

    def forward(self, x):
        h, w, least = *x.shape[1:3], self.window * self.dilation
        x = F.pad(x, (0, 0, 0, max(0, least - w), 0, max(0, least - h)))
        ones, far = neighbours(*x.shape[1:3], self.window, self.dilation, x.device)
        bias = (self.rpb.flatten(1) @ ones).unflatten(1, far.shape) + far
        qkv = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        score = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2) + bias
        y = (score.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.proj(y.unflatten(1, x.shape[1:3])[:, :h, :w])


class Windows(l2vit.Windows):
    def forward(self, x):
        _, h, w, _ = x.shape
        s = self.window
        x = F.pad(x, (0, 0, 0, -w % s, 0, -h % s))
        y = self.proj(attend(windows(self.qkv(x), s), self.heads))
        return unwindows(y, s, *x.shape[1:3])[:, :h, :w]


class HiLo(litv2.HiLo):
    def close(self, x):
        y = self.h_proj(attend(windows(self.h_qkv(x), self.window), self.high))
        return unwindows(y, self.window, *x.shape[1:3])


class DeformConv(litv2.DeformConv):
    """All samples of a map by grid_sample, which is zero outside as the sums of the reference are."""

    def forward(self, x):
        _, h, w, _ = x.shape
        offset = litv2.on_map(self.conv_offset, x).float().unflatten(-1, (2, 2, 2))
        rows = torch.arange(h, device=x.device).view(h // 2, 1, 2, 1)
        cols = torch.arange(w, device=x.device).view(1, w // 2, 1, 2)
        grid = torch.stack((2 * (cols + offset[..., 1]) / (w - 1) - 1,
                            2 * (rows + offset[..., 0]) / (h - 1) - 1), -1)
        samples = F.grid_sample(x.permute(0, 3, 1, 2).float(), grid.flatten(3, 4).flatten(2, 3),
                                align_corners=True)
        samples = samples.unflatten(-1, (w // 2, 4)).permute(0, 2, 3, 1, 4).flatten(3)
        return F.linear(samples, self.weight.flatten(1), self.bias)


FAST = {dinat.Attention: Neighborhood, l2vit.Windows: Windows, litv2.HiLo: HiLo,
        litv2.DeformConv: DeformConv}


def reference(name):
    if name == "maxvit_fashion":
        return maxvit.create(name, (64, 64))
    if name in ("van_fashion", "davit_fashion"):
        return {"van_fashion": van, "davit_fashion": davit}[name].build(name).train()
    return {"dinat_fashion": dinat, "litv2_fashion": litv2, "l2vit_fashion": l2vit}[name].Network(
        name)


def build(name):
    """The network to train, with parameters to begin with."""
    net = reference(name)
    for key, module in net.named_modules():
        module.__class__ = FAST.get(type(module), type(module))
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, litv2.DeformConv):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.conv_offset.weight)
            nn.init.zeros_(module.conv_offset.bias)
        elif isinstance(module, van.Block):
            nn.init.constant_(module.layer_scale_1, 0.1)
            nn.init.constant_(module.layer_scale_2, 0.1)
    return net


@torch.inference_mode()
def check():
    """Logits of the fast networks against the references on golden weights and random pictures."""
    import reference as numbers
    torch.manual_seed(0)
    x = torch.randn(3, 3, 64, 64)
    for name in NAMES:
        slow, fast = reference(name).eval(), build(name).eval()
        numbers.fill(slow)
        fast.load_state_dict(slow.state_dict())
        want, got = slow(x), fast(x)
        error = float((got - want).abs().max() / want.abs().max())
        print(f"{name}: {sum(p.numel() for p in fast.parameters()) / 1e6:.2f} M parameters, "
              f"reference and training network differ by {error:.1e} of max|logit|", flush=True)
        assert error < 1e-5, name
