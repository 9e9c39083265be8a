"""Lets torchvision be imported beside a torch that it was not built for.

Its compiled operators do not load there, and it asks for two of them by name. Nothing measured here
calls any.
"""

from __future__ import annotations

import torch

try:
    import torchvision
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
