"""The U-Net of a `.safetensors` file in plain PyTorch, for processes without tilseg."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class UNet(nn.Module):
    """Ronneberger et al. 2015 with batch normalisation, of the depth and width of `weights`.

    padding: 1 keeps the size, as most tools expect; 0 loses `6 * stride - 4` pixels a side. stride:
    of the coarsest level.
    """

    def __init__(self, weights: dict[str, Tensor], padding: int) -> None:
        super().__init__()
        depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("up."))
        self.stride = 1 << depth
        width, bands = weights["encoder.0.0.weight"].shape[:2]
        widths = [bands, *(width << level for level in range(depth + 1))]

        def block(into: int, out: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (into, out):
                conv = nn.Conv2d(channels, out, 3, padding=padding, bias=False)
                layers += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        down = range(1, depth + 1)
        self.encoder = nn.ModuleList(block(widths[n - 1], widths[n]) for n in down)
        self.bottleneck = block(widths[-2], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * widths[n], widths[n], 2, 2) for n in down)
        self.decoder = nn.ModuleList(block(2 * widths[n], widths[n]) for n in down)
        self.head = nn.Conv2d(width, len(weights["head.weight"]), 1)
        self.load_state_dict({name.replace(".conv.", "."): w for name, w in weights.items()})
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows, cols), less what is not padded."""
        skips = []
        for block in self.encoder:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x, skip = up(x), skips.pop()
            row, col = ((s - o) // 2 for s, o in zip(skip.shape[2:], x.shape[2:], strict=True))
            skip = skip[..., row : row + x.shape[2], col : col + x.shape[3]]
            x = block(torch.cat([skip, x], dim=1))
        return self.head(x)


def load(path: str, *, padding: int) -> UNet:
    """The network of a file, as it is in PyTorch by default: float32, nothing folded."""
    return UNet(load_file(path), padding)
