"""Feeding a GPU: the same bits as without, memory that runs out, and tiles that fit.

What a GPU would do is done on the CPU by the same lines; what only a GPU shows skips without one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.model_contract import card_of, random_network
from tiny import noise, save_tiny_model, tree

import tilseg
from tilseg.cli import planned
from tilseg.errors import ResourceError
from tilseg.model import BandStatistics
from tilseg.models.feed import Feed
from tilseg.models.network import load
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.sources.array import ArraySource
from tilseg.verbs import bench
from tilseg.window import Size

STATISTICS = BandStatistics((100.0, 90.0), (50.0, -40.0))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def network_of(classes: int = 3, **parameters):
    parameters = {"bands": 2, "classes": classes, "depth": 2, "width": 4, **parameters}
    network = random_network(build, parameters).float()
    return network, card_of(network, "unet", parameters)


def both(classes: int = 3, **kwargs) -> tuple[TorchModel, TorchModel]:
    """The same model, plain and fed."""
    plain, fed = (TorchModel(*network_of(classes), threads=1, **kwargs) for _ in range(2))
    fed.feed = Feed("cpu")
    return plain, fed


def pixels(n: int = 1, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 100, (n, 44, 52, 2)).astype(dtype)


def assert_same(found, expected) -> None:
    for name in ("labels", "finite", "probabilities"):
        one, other = getattr(found, name), getattr(expected, name)
        if other is None:
            assert one is None
        else:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


# ---- the same bits


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("tta", ["none", "d4"])
def test_a_fed_network_answers_as_a_plain_one(classes, dtype, tta):
    plain, fed = both(classes, dtype=dtype, tta=tta)
    for certain in (False, True):
        expected = plain.predict(pixels(2), STATISTICS, probabilities=certain)
        assert_same(fed.predict(pixels(2), STATISTICS, probabilities=certain), expected)
    assert len(np.unique(expected.probabilities)) > 9


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<u2", ">u2", ">i2", "<u4", "<i8", "<f2", ">f4", "<f8"]
)
def test_every_dtype_travels(dtype):
    plain, fed = both()
    expected = plain.predict(pixels(), STATISTICS, probabilities=True)
    assert_same(fed.predict(pixels(dtype=dtype), STATISTICS, probabilities=True), expected)


def test_any_layout_travels_and_the_caller_s_pixels_stay():
    plain, fed = both()
    expected = plain.predict(pixels(), STATISTICS)
    frozen = pixels()
    frozen.flags.writeable = False
    wide = np.repeat(pixels(), 2, axis=2)
    for same in (frozen, wide[:, :, ::2], np.ascontiguousarray(pixels()[..., ::-1])[..., ::-1]):
        before = same.copy()
        assert_same(fed.predict(same, STATISTICS), expected)
        np.testing.assert_array_equal(same, before)


def test_scores_that_are_no_numbers_are_told():
    plain, fed = both()
    spoilt = pixels(dtype=np.float32)
    spoilt[0, 20, 30, 1] = np.nan
    assert plain.predict(spoilt, STATISTICS).finite.tolist() == [False]
    assert fed.predict(spoilt, STATISTICS).finite.tolist() == [False]


def test_pixels_travel_as_they_are_and_classes_as_bytes(monkeypatch):
    _, fed = both()
    seen = []
    run = Feed.run

    def watched(self, step, given):
        def told(there):
            found = step(there)
            seen.append((there.dtype, [part.dtype for part in found]))
            return found

        return run(self, told, given)

    monkeypatch.setattr(Feed, "run", watched)
    fed.predict(pixels(dtype=np.uint16), STATISTICS)
    fed.predict(pixels(), STATISTICS, probabilities=True)
    assert seen == [
        (torch.uint16, [torch.uint8, torch.bool]),
        (torch.uint8, [torch.uint8, torch.bool, torch.uint8]),
    ]


def test_one_tile_travels_while_another_is_computed_and_only_one_is(monkeypatch):
    feed = Feed("cpu")
    inside = threading.Lock()
    second_is_there = threading.Event()
    began = threading.Event()
    staged = Feed._staged

    def watched(self, given):
        there = staged(self, given)
        if given[0] == 2:
            began.wait(20)
            second_is_there.set()
        return there

    def step(there):
        assert inside.acquire(blocking=False), "two at once"
        began.set()
        assert second_is_there.wait(20), "the second waits for the first"
        inside.release()
        return (there + 1,)

    monkeypatch.setattr(Feed, "_staged", watched)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(feed.run, step, np.array([1]))
        began.wait(20)
        second = pool.submit(feed.run, step, np.array([2]))
        assert (first.result()[0].item(), second.result()[0].item()) == (2, 3)


class Library:
    """What `torch.cuda` has, writing down who waits for what."""

    def __init__(self) -> None:
        self.log: list[tuple[str, ...]] = []
        self.current = "host"
        self.streams = 0

    def Stream(self):  # noqa: N802
        self.streams += 1
        return _Stream(self, ("computing", "copying")[self.streams - 1])

    def Event(self):  # noqa: N802
        return _Event(self)

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before


class _Stream:
    def __init__(self, library: Library, name: str) -> None:
        self.library, self.name = library, name

    def record_event(self):
        event = _Event(self.library)
        event.record(self)
        return event

    def wait_event(self, event) -> None:
        self.library.log.append((self.name, "waits for", event.told))


class _Event:
    def __init__(self, library: Library) -> None:
        self.library = library

    def record(self, stream) -> None:
        self.told = self.library.log[-1] if self.library.log else ()

    def synchronize(self) -> None:
        self.library.log.append(("host", "waits for", self.told))


def test_every_stream_waits_for_what_it_needs(monkeypatch):
    library = Library()
    monkeypatch.setattr(torch, "get_device_module", lambda device: library)
    feed = Feed("cpu")
    monkeypatch.setattr(Feed, "_staged", lambda self, given: Travelling("pixels", library))

    def step(there):
        assert there.what == "pixels"
        library.log.append((library.current, "computes"))
        return Travelling("labels", library), Travelling("finite", library)

    for expected in range(2):
        found = feed.run(step, np.array([expected]))
        assert [part.what for part in found] == ["labels", "finite"]
        log, library.log[:] = library.log[:], []
        there = ("copying", "carries", "pixels")
        back = ("copying", "carries", "finite")
        assert log == [
            there,
            ("computing", "waits for", there),
            ("computing", "computes"),
            ("copying", "waits for", ("computing", "computes")),
            ("copying", "carries", "labels"),
            back,
            ("host", "waits for", back),
        ]


class Travelling:
    """A tensor of which only its journeys matter."""

    def __init__(self, what: str, library: Library) -> None:
        self.what, self.library = what, library

    def to(self, device, *, non_blocking):
        assert non_blocking
        self.library.log.append((self.library.current, "carries", self.what))
        return self


# ---- memory that runs out


class Scarce:
    """A step whose first `times` calls find no memory, while they hold activations."""

    def __init__(self, times: int) -> None:
        self.left, self.held = times, []

    def __call__(self, there):
        assert all(activation() is None for activation in self.held), "activations were kept"
        activation = there * 2
        self.held.append(weakref.ref(activation))
        if self.left:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (activation.clone(),)


def test_a_tile_is_tried_again_with_what_was_kept_given_back(monkeypatch):
    feed, given_back = Feed("cpu"), []
    monkeypatch.setattr(Feed, "_give_back", lambda self: given_back.append("all"))
    (found,) = feed.run(Scarce(1), np.array([3, 4]))
    assert found.tolist() == [6, 8]
    assert given_back == ["all"]


def test_memory_that_is_not_there_is_one_line(monkeypatch):
    feed = Feed("cpu")
    monkeypatch.setattr(Feed, "free_bytes", lambda self: 1_234_000_000)
    scarce = Scarce(9)
    with pytest.raises(ResourceError) as caught:
        feed.run(scarce, np.zeros((44, 52, 2), np.uint8))
    assert (caught.value.id, caught.value.exit_code) == ("E-MEMORY-DEVICE", 8)
    assert "no room for an input of 44 x 52 pixels: 1.2 GB are free" in str(caught.value)
    assert scarce.left == 7
    # The next tile finds it in order.
    assert feed.run(Scarce(0), np.array([1]))[0].tolist() == [2]


def test_other_errors_are_not_tried_again():
    calls = []

    def broken(there):
        calls.append(there)
        raise RuntimeError("an illegal instruction")

    with pytest.raises(RuntimeError, match="illegal"):
        Feed("cpu").run(broken, np.array([1]))
    assert len(calls) == 1


# ---- whole runs


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", classes=3)


def run(file, output, **options):
    source = tilseg.open_source(noise(211, 307))
    plan = tilseg.make_plan(source, tilseg.load_model(file, threads=1), tile=36, threads=1)
    return tilseg.run(plan, output, outputs=("zarr",), **options)


@pytest.fixture
def fed_runs(monkeypatch):
    def fed(*args, **kwargs):
        model = load(*args, **kwargs)
        model.feed = Feed("cpu")
        return model

    monkeypatch.setattr("tilseg.infer.load_model", fed)


def test_a_run_ends_in_the_same_bytes_also_after_memory_ran_out(
    file, tmp_path, fed_runs, monkeypatch
):
    answer, calls = TorchModel._answer, []

    def scarce(self, *args, **kwargs):
        calls.append(None)
        if len(calls) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(self, *args, **kwargs)

    monkeypatch.setattr(Feed, "free_bytes", lambda self: 10**6)
    with monkeypatch.context() as until_fixed:
        until_fixed.setattr(TorchModel, "_answer", scarce)
        with pytest.raises(ResourceError, match="no room for an input of"):
            run(file, tmp_path / "fed.tilseg")
    assert not (tmp_path / "fed.tilseg").exists()
    report = run(file, tmp_path / "fed.tilseg")
    assert report.summary["blocks"]["kept"] > 0
    monkeypatch.undo()
    run(file, tmp_path / "plain.tilseg")
    fed, plain = (tree(tmp_path / name / "mask.zarr") for name in ("fed.tilseg", "plain.tilseg"))
    assert fed == plain


# ---- tiles that fit


def measured(monkeypatch, per_pixel: int, free: int, **kwargs) -> TorchModel:
    """A model on a stand-in for a GPU that takes `per_pixel` bytes and has `free`."""
    _, fed = both(**kwargs)
    answer, sizes = TorchModel._answer, []

    def watched(self, raw, *args, **keywords):
        sizes.append(raw.shape[0] * raw.shape[1])
        return answer(self, raw, *args, **keywords)

    def peak_bytes(self, work):
        work()
        return per_pixel * sizes[-1]

    monkeypatch.setattr(TorchModel, "_answer", watched)
    monkeypatch.setattr(Feed, "peak_bytes", peak_bytes)
    monkeypatch.setattr(Feed, "free_bytes", lambda self: free)
    return fed


@pytest.mark.parametrize(
    ("per_pixel", "free", "expected"),
    # 0.8 * 2e9 / 1000 is the square of 1264.9.
    [(1000, 2_000_000_000, 1264), (1000, 10**12, 4200), (4000, 2_000_000_000, 632)],
)
def test_the_largest_input_is_what_fits_four_fifths_of_the_free_memory(
    monkeypatch, per_pixel, free, expected
):
    model = measured(monkeypatch, per_pixel, free)
    assert abs(model.largest_input() - expected) <= 1
    # Measured once: later, a run may be using the memory.
    monkeypatch.setattr(Feed, "free_bytes", lambda self: 0)
    assert abs(model.largest_input() - expected) <= 1


def test_processes_share_the_gpus(monkeypatch):
    model = measured(monkeypatch, 1000, 2_000_000_000)
    monkeypatch.setattr("tilseg.models.torch_model.cuda_devices", lambda: ("0", "1"))
    alone = model.largest_input(1)
    assert [model.largest_input(count) for count in (2, 3, 4)] == [alone, 893, 893]


def test_the_plan_takes_a_tile_that_fits_the_gpu(monkeypatch):
    model = measured(monkeypatch, 10_000, 2_000_000_000)
    assert model.largest_input() in (399, 400)
    model.device = "cuda:0"
    source = ArraySource(noise(1511, 1213, 2))
    plan = tilseg.make_plan(source, model, memory="4GB", regions=None)
    assert (plan.device, plan.lanes, plan.threads) == ("cuda", 2, 1)
    assert max(plan.grid.input) <= 400
    assert min(plan.grid.input) > 300
    # An image of few tiles has none to travel while another is computed.
    small = tilseg.make_plan(ArraySource(noise(397, 211, 2)), model, memory="4GB", regions=None)
    assert small.lanes == 1


def test_a_run_has_a_process_for_every_gpu(monkeypatch):
    plain, _ = both()
    monkeypatch.setattr("tilseg.models.devices.cuda_devices", lambda: ("4", "7"))
    assert planned._gpus(plain) == 1
    plain.device = "cuda:0"
    assert planned._gpus(plain) == 2


def test_bench_tries_no_input_that_does_not_fit():
    source = ArraySource(noise(1511, 1213, 2))
    plan = tilseg.make_plan(source, both()[0], tile=100, regions=None)
    for largest in (4200, 600, 100):
        tiles = {way.tile for way in bench._ways(plan, ["fp32"], largest)}
        inputs = {plan.grid.field.input_for(tile.rows) for tile in tiles - {Size(100, 100)}}
        assert len(inputs) == sum(side <= largest for side in (256, 384, 572, 768, 1084))
        assert all(side <= largest for side in inputs)


# ---- on a GPU


@needs_gpu
def test_on_a_gpu_two_at_once_give_the_bits_of_one(file):
    model = load(file, device="cuda", threads=1)
    statistics = BandStatistics((127.0,) * 3, (74.0,) * 3)
    images = [noise(332, 404, seed=seed)[None] for seed in range(12)]
    one = [model.predict(image, statistics, probabilities=True) for image in images]
    with ThreadPoolExecutor(2) as pool:
        two = list(
            pool.map(lambda image: model.predict(image, statistics, probabilities=True), images)
        )
    for found, expected in zip(two, one, strict=True):
        assert_same(found, expected)


@needs_gpu
def test_on_a_gpu_the_largest_input_fits(file):
    model = load(file, device="cuda", threads=1)
    step = model.field.step_below(model.largest_input() - 2 * model.field.halo)
    side = model.field.input_for(step)
    statistics = BandStatistics((127.0,) * 3, (74.0,) * 3)
    found = model.predict(np.zeros((1, side, side, 3), np.uint8), statistics)
    assert found.finite.all()


# ---- the benchmark

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_the_benchmark_says_what_a_device_reaches():
    done = benchmark(
        *("--device", "cpu", "--widths", "2", "--inputs", "220", "--seconds", "0.001"),
        *("--noise", "211", "--image", "none"),
    )
    assert done.returncode == 0, done.stderr
    exact, fast = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    by_precision = {row[exact["heads"].index("precision")]: row for row in exact["rows"]}
    differ = exact["heads"].index("differ")
    assert set(by_precision) == {"fp32", "bf16"}
    # On the CPU itself, float32 is what it is compared with.
    assert by_precision["fp32"][differ] == 0
    assert 0 < by_precision["bf16"][differ] < 211 * 211
    assert {row[fast["heads"].index("width")] for row in fast["rows"]} == {2}
    assert all(float(row[fast["heads"].index("Mpix/s")]) > 0 for row in fast["rows"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_benchmark_without_a_gpu_is_one_line():
    done = benchmark()
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("error[E-NO-CUDA]: device 'cuda' was asked for, but ")
    assert len(done.stderr.splitlines()) == 1
