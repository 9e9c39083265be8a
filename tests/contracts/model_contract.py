"""What every network promises. A new one subclasses `ModelContract`, states its parameters,
and inherits the suite:

    class TestMyNetwork(ModelContract):
        architecture = "mine"                     # its name in tilseg.model.ARCHITECTURES
        parameters = {"bands": 2, "classes": 3}   # small: float64 on one core

Weights are random, and so are the statistics of every normalisation.
"""

from __future__ import annotations

import copy
import functools
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from tilseg.card import Card, ClassInfo, Normalization
from tilseg.errors import UsageError
from tilseg.model import BandStatistics, Model
from tilseg.models.blocks import Network
from tilseg.models.network import build, load, make_network, save_model
from tilseg.models.probe import measured_halo, tiled_logits
from tilseg.models.torch_model import TorchModel


def random_network(build: Any, parameters: dict[str, Any], seed: int = 0) -> Network:
    """A float64 network whose every weight and running statistic is random."""
    torch.manual_seed(seed)
    network: Network = build(parameters).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)
        elif getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias, std=0.3)
    return network


def card_of(network: Network, architecture: str, parameters: dict[str, Any], **fields: Any) -> Card:
    """A card for `network`, softmax unless it has one channel."""
    bands, channels, field = network.bands, network.channels, network.field
    names = [f"class {value}" for value in range(max(2, channels))]
    content: dict[str, Any] = {
        "name": "random",
        "architecture": architecture,
        "parameters": parameters,
        "bands": bands,
        "normalization": Normalization(kind="constants", mean=(0,) * bands, std=(1,) * bands),
        "head": "softmax" if channels > 1 else "sigmoid",
        "classes": tuple(ClassInfo(name=name, color="#808080") for name in names),
        "halo": field.halo,
        "stride": field.stride,
        "offset": field.offset,
        "inexact": network.inexact,
    }
    return Card(**{**content, **fields})


def whole_scores(
    network: Network, image: NDArray[Any], statistics: BandStatistics
) -> NDArray[np.float64]:
    """Scores of the whole image (rows, cols, bands), by numpy's own mirror and one forward pass.

    Nothing here is shared with tilseg's windows, tiles, folding or memory layout.
    """
    field = network.field
    normal = (image.astype(np.float64) - statistics.mean) / statistics.std
    pads = [(field.halo, field.input_for(n) - n - field.halo) for n in image.shape[:2]]
    padded = np.pad(normal, [*pads, (0, 0)], mode="reflect")
    with torch.no_grad():
        found = network(torch.from_numpy(padded.transpose(2, 0, 1)[np.newaxis].copy()))[0].numpy()
    row, col = (
        (found.shape[axis + 1] + 2 * field.halo - padded.shape[axis]) // 2 for axis in (0, 1)
    )
    return found[:, row : row + image.shape[0], col : col + image.shape[1]]


def assert_equal_scores(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Equal to 1e-12 of the largest score, which random weights may make large."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)


class LiveElements(TorchDispatchMode):
    """Counts the float64 numbers that were alive at once, those it was entered with apart."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        numbers = storage.nbytes() // 8
        self.now += numbers
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, numbers)

    def _forget(self, numbers: int) -> None:
        self.now -= numbers


class ModelContract:
    architecture: ClassVar[str] = "unet"
    parameters: ClassVar[dict[str, Any]]

    @pytest.fixture(scope="class")
    def made(self) -> Network:
        return random_network(functools.partial(make_network, self.architecture), self.parameters)

    @pytest.fixture
    def network(self, made: Network) -> Network:
        return copy.deepcopy(made)

    @pytest.fixture
    def card(self, network: Network) -> Card:
        return card_of(network, self.architecture, self.parameters)

    @pytest.fixture
    def model(self, network: Network, card: Card) -> TorchModel:
        return TorchModel(network, card, threads=1)

    @pytest.fixture
    def exact(self, network: Network, card: Card) -> TorchModel:
        return TorchModel(network, card, dtype=torch.float64, threads=1)

    @pytest.fixture
    def statistics(self, network: Network) -> BandStatistics:
        bands = network.bands
        return BandStatistics(
            tuple(100.0 + 7 * b for b in range(bands)), (-40.0, 55.5, 61.0)[:bands]
        )

    @pytest.fixture
    def image(self, network: Network) -> NDArray[np.uint8]:
        stride = network.field.stride
        shape = (stride + 7, 2 * stride + 1, network.bands)
        return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)

    def batch(self, network: Network, n: int, dtype: Any = np.uint8) -> NDArray[Any]:
        field = network.field
        shape = (n, field.input_for(1), field.input_for(2 * field.stride), network.bands)
        return np.random.default_rng(2).integers(0, 128, shape).astype(dtype)

    def test_is_a_model(self, model):
        checked: Model = model
        assert (checked.device, checked.field) == ("cpu", checked.card.field)

    def test_legal_sizes_and_no_other(self, network, model, statistics):
        field = network.field
        low = field.input_for(1)
        for pixels in range(max(1, low - field.stride), low + 2 * field.stride):
            batch = np.zeros((1, pixels, low, network.bands), np.uint8)
            if not field.is_legal(pixels):
                with pytest.raises(ValueError, match="not legal"):
                    model.predict(batch, statistics)
                continue
            found = model.predict(batch, statistics)
            assert found.labels.shape == (1, pixels - 2 * field.halo, low - 2 * field.halo)

    def test_measured_halo_is_the_declared_one(self, network):
        expected = None if network.inexact else network.field.halo
        assert measured_halo(network) == expected

    def test_tiled_is_whole(self, network, exact, image, statistics):
        expected = whole_scores(network, image, statistics)
        found = tiled_logits(exact, image, statistics, network.field.stride)
        if network.inexact:
            assert np.abs(found - expected).max() > 1e-3
        else:
            assert_equal_scores(found, expected)

    def test_a_step_off_the_lattice_is_refused(self, network, model, image, statistics):
        with pytest.raises(
            UsageError, match=f"multiple of the model's stride {network.field.stride}"
        ):
            tiled_logits(model, image, statistics, network.field.stride + 1)

    def test_does_not_depend_on_batch_or_order(self, network, model, statistics):
        batch = self.batch(network, 3)
        together = model.predict(batch, statistics, probabilities=True)
        for index in (2, 0, 1):
            alone = model.predict(batch[index : index + 1], statistics, probabilities=True)
            np.testing.assert_array_equal(alone.labels[0], together.labels[index])
            np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[index])
        logits = [model.logits(batch[i : i + 1], statistics)[0].tobytes() for i in (2, 0, 1)]
        together = model.logits(batch, statistics)
        assert logits == [together[i].tobytes() for i in (2, 0, 1)]

    def test_float32_is_float64_but_for_rounding(self, network, model, exact, image, statistics):
        found = tiled_logits(model, image, statistics, 2 * network.field.stride)
        expected = tiled_logits(exact, image, statistics, 2 * network.field.stride)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)

    def test_labels_follow_from_the_scores(self, network, model, statistics):
        batch = self.batch(network, 2)
        logits, found = model.logits(batch, statistics), model.predict(batch, statistics)
        if model.card.head == "softmax":
            expected = logits.argmax(axis=1)
        else:
            expected = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64))) > model.card.threshold
        assert found.labels.dtype == np.uint8
        np.testing.assert_array_equal(found.labels, expected)
        assert found.finite.tolist() == [True, True]
        assert found.probabilities is None

    def test_a_bad_pixel_is_told_and_stays_alone(self, network, model, statistics):
        batch = self.batch(network, 2, np.float32)
        good = model.predict(batch, statistics)
        middle = batch.shape[1] // 2, batch.shape[2] // 2
        batch[1, middle[0], middle[1], 0] = np.nan
        found = model.predict(batch, statistics)
        assert found.finite.tolist() == [True, False]
        np.testing.assert_array_equal(found.labels[0], good.labels[0])

    def test_saved_and_loaded_it_is_the_same(self, network, card, model, statistics, tmp_path):
        path = tmp_path / "model.safetensors"
        save_model(network.float(), card, path)
        network.double()
        loaded = load(path, device="cpu", threads=1)
        batch = self.batch(network, 1)
        assert (loaded.card, loaded.field) == (card, network.field)
        assert loaded.uri == str(path)
        expected = TorchModel(network, card, threads=1)
        assert loaded.logits(batch, statistics).tobytes() == (
            expected.logits(batch, statistics).tobytes()
        )

    def test_is_exported(self, model):
        rows, cols = model.field.input_for(1), model.field.input_for(1 + model.field.stride)
        pixels = torch.randn(1, model.card.bands, rows, cols)
        with torch.no_grad():
            expected = model.network(pixels)
            program = torch.export.export(model.network, (pixels,))
            torch.testing.assert_close(program.module()(pixels), expected, rtol=1e-5, atol=1e-5)

    def test_every_weight_learns(self, network):
        for module in network.train().modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.bias)  # so that no ReLU is dead in so few channels
        side = network.field.input_for(network.field.stride)
        torch.manual_seed(0)
        heads = network.heads(torch.randn(2, network.bands, side, side, dtype=torch.float64))
        assert len(heads) == len(network.head_weights)
        least = side - 2 * network.field.halo
        assert all(head.shape[:2] == (2, network.channels) for head in heads)
        assert all(min(head.shape[2:]) >= least for head in heads)
        sum(head.square().sum() for head in heads).backward()
        assert all(bool(weight.grad.abs().sum() > 0) for weight in network.parameters())

    def test_memory_is_told_from_above(self, network, exact):
        rows, cols = network.field.input_for(1), network.field.input_for(2 * network.field.stride)
        with torch.no_grad(), LiveElements() as live:
            exact.network(torch.zeros(1, network.bands, rows, cols, dtype=torch.float64))
        promised = network.live_elements(rows, cols)
        assert promised / 4 < live.most <= promised + network.bands * rows * cols

    def test_is_built_without_storage(self, card):
        network = build(card, "model")
        assert all(weight.is_meta for weight in network.state_dict().values())
