"""Loading, saving and running a network: bad files are named, good ones give the same bytes."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from contracts.model_contract import card_of, random_network, tiled_logits

from tilseg.errors import ModelError, OutputError, ResourceError, UsageError
from tilseg.model import BandStatistics, load_model
from tilseg.models.devices import resolve_device
from tilseg.models.network import load, save_model
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import UNetConfig, build
from tilseg.window import Size

PARAMETERS = {"bands": 2, "classes": 3, "depth": 2, "width": 4, "norm": "batch"}
STATISTICS = BandStatistics((100.0, 90.0), (50.0, -40.0))


@pytest.fixture
def network():
    return random_network(build, PARAMETERS).float()


@pytest.fixture
def card(network):
    return card_of(network, "unet", PARAMETERS)


@pytest.fixture
def file(network, card, tmp_path):
    save_model(network, card, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def model(network, card):
    return TorchModel(network, card, threads=1)


def batch(n=1, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 100, (n, 44, 52, 2)).astype(dtype)


def rewrite(file, *, card=None, change=None):
    """The model at `file` with its card's JSON or its weights changed, whatever they become."""
    weights = safetensors.numpy.load_file(file)
    header_size = struct.unpack("<Q", file.read_bytes()[:8])[0]
    header = json.loads(file.read_bytes()[8 : 8 + header_size])
    content = json.loads(header["__metadata__"]["tilseg"])
    content.update(card or {})
    if change:
        change(weights)
    safetensors.numpy.save_file(weights, file, {"tilseg": json.dumps(content)})


# ---- loading


def test_load_by_the_public_door(file):
    model = load_model(file, device="cpu", threads=1)
    assert model.uri == str(file)
    assert model.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model.predict(batch(), STATISTICS).labels.shape == (1, 4, 12)


def remove(*keys):
    return lambda weights: [weights.pop(key) for key in keys]


def rename(old, new):
    return lambda weights: weights.update({new: weights.pop(old)})


def prefix(weights):
    for key in list(weights):
        weights[f"module.{key}"] = weights.pop(key)


def replace(key, value):
    return lambda weights: weights.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("head.bias"), "missing: head.bias"),
        (rename("head.bias", "head.bais"), "missing: head.bias; unknown: head.bais"),
        (
            prefix,
            "missing: encoder.0.0.weight, encoder.0.1.weight, encoder.0.1.bias and 63 more; "
            "unknown: module.bottleneck.0.weight, module.bottleneck.1.bias, "
            "module.bottleneck.1.num_batches_tracked and 63 more",
        ),
        (
            replace("head.bias", np.zeros(2, np.float32)),
            "head.bias is 2 instead of 3",
        ),
        (
            replace("head.weight", np.zeros((3, 4, 1, 1), np.int64)),
            "head.weight is int64 3 x 4 x 1 x 1 instead of 3 x 4 x 1 x 1",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(file, change, message):
    rewrite(file, change=change)
    with pytest.raises(ModelError) as caught:
        load(file, device="cpu")
    assert (caught.value.id, caught.value.exit_code) == ("E-MODEL-WEIGHTS", 6)
    assert message in caught.value.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_numbers_are_named(file, bad):
    def spoil(weights):
        weights["up.1.conv.weight"][3, 1, 0, 1] = bad

    rewrite(file, change=spoil)
    with pytest.raises(ModelError, match=r"weight 'up.1.conv.weight' holds NaN") as caught:
        load(file, device="cpu")
    assert caught.value.id == "E-MODEL-NAN"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"halo": 16}, "halo is 16, but its network has 20"),
        ({"stride": 8}, "stride is 8, but its network has 4"),
        ({"offset": 2}, "offset is 2, but its network has 0"),
        (
            {"architecture": "unett"},
            "'unett' can't be built: it is unknown (did you mean 'unet'?); known: unet, ",
        ),
        ({"parameters": {**PARAMETERS, "levels": 3}}, "no parameter 'levels'"),
        ({"parameters": {**PARAMETERS, "bands": 3}}, "bands is 2, but its network has 3"),
        ({"parameters": {**PARAMETERS, "classes": 2}}, "channels is 3, but its network has 2"),
        (
            {"parameters": {**PARAMETERS, "upsampling": "bilinear-corners"}, "halo": 23},
            "claims to be exact, but has bilinear up-sampling with align_corners=True",
        ),
    ],
)
def test_a_card_that_contradicts_its_network_is_refused(file, fields, message):
    rewrite(file, card=fields)
    with pytest.raises(ModelError) as caught:
        load(file, device="cpu")
    assert caught.value.id == "E-MODEL-CARD"
    assert message in caught.value.message
    assert str(file) in caught.value.message


def test_a_card_for_a_giant_takes_no_memory(file):
    giant = {**PARAMETERS, "depth": 8, "width": 1024, "convs": 8}  # 33 TB, were it built
    field = UNetConfig(**giant).receptive_field
    geometry = {"halo": field.halo, "stride": field.stride, "offset": field.offset}
    rewrite(file, card={"parameters": giant, **geometry})
    with pytest.raises(ModelError) as caught:
        load(file, device="cpu")
    assert caught.value.id == "E-MODEL-WEIGHTS"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:100],
        lambda content: content[:7],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: b"<!DOCTYPE html><html>not found</html>",
        lambda content: content.replace(b'"data_offsets":[', b'"data_offsets":[9', 1),
        lambda content: content.replace(b'"F32"', b'"F31"', 1),
    ],
)
def test_damaged_files_are_refused(file, spoil):
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ModelError) as caught:
        load(file, device="cpu")
    assert caught.value.id == "E-MODEL-FORMAT"
    assert str(file) in caught.value.message


class _Runs:
    def __reduce__(self):
        return (pytest.fail, ("the file ran code",))


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"weights": _Runs()}, path)
    with pytest.raises(ModelError) as caught:
        load(path, device="cpu")
    assert caught.value.id == "E-MODEL-CODE"


def test_an_unreadable_file_is_named(file, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match="Permission denied"):
        load(file, device="cpu")


# ---- saving


def test_saving_twice_gives_the_same_bytes(network, card, file, tmp_path):
    network.to(memory_format=torch.channels_last)
    save_model(network, card, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.safetensors",
        "model.safetensors",
    ]


@pytest.mark.parametrize("storage", ["fp16", "bf16"])
def test_half_storage_rounds_once(network, card, file, tmp_path, storage):
    small = tmp_path / "small.safetensors"
    save_model(network, card, small, storage=storage)
    assert small.stat().st_size < 0.7 * file.stat().st_size
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[storage]
    rounded = {
        key: value.to(dtype).to(value.dtype) if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(rounded)
    expected = TorchModel(network, card, threads=1).logits(batch(), STATISTICS)
    found = load(small, device="cpu", threads=1).logits(batch(), STATISTICS)
    assert found.tobytes() == expected.tobytes()


def test_a_weight_too_large_for_half_is_refused(network, card, tmp_path):
    with torch.no_grad():
        network.head.weight[0, 0] = 7e4  # above the largest float16
    with pytest.raises(ModelError) as caught:
        save_model(network, card, tmp_path / "m.safetensors", storage="fp16")
    assert caught.value.id == "E-MODEL-NAN"
    assert list(tmp_path.iterdir()) == []


def test_what_load_would_refuse_is_not_saved(network, card, tmp_path):
    other = card.model_copy(update={"halo": 24})
    with pytest.raises(ModelError, match="halo is 24"):
        save_model(network, other, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="missing: encoder"):
        save_model(torch.nn.Identity(), card, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(network, card, file, monkeypatch):
    before = file.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tilseg.models.weights.os.fsync", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        save_model(network, card, file)
    assert caught.value.exit_code == 7
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# ---- predicting


@pytest.mark.parametrize(
    "dtype",
    ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", "<i4", "<i8", "<f2", "<f4", ">f4", "<f8"],
)
def test_every_dtype_is_the_number_it_holds(model, dtype):
    expected = model.logits(batch(dtype=np.float64), STATISTICS)
    found = model.logits(batch(dtype=dtype), STATISTICS)
    assert found.dtype == np.float32
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_callers_pixels_stay_as_they_are(model, dtype):
    pixels = batch(2, dtype)
    before = pixels.copy()
    model.predict(pixels, STATISTICS)
    np.testing.assert_array_equal(pixels, before)


def test_read_only_and_strided_pixels(model, recwarn):
    pixels = batch(2)
    expected = model.logits(pixels, STATISTICS)
    frozen = pixels.copy()
    frozen.flags.writeable = False
    strided = np.repeat(pixels, 2, axis=2)[:, :, ::2]
    reversed_bands = np.ascontiguousarray(pixels[..., ::-1])[..., ::-1]
    for same in (frozen, strided, reversed_bands):
        assert model.logits(same, STATISTICS).tobytes() == expected.tobytes()
    assert not recwarn.list


def test_normalisation_is_subtract_then_divide(network, card):
    statistics = BandStatistics((30000.0, 5.0), (3.0, -0.25))
    pixels = np.random.default_rng(1).integers(-9, 9, (1, 44, 44, 2)).astype(np.int32)
    pixels[..., 0] += 30000
    seen = []
    model = TorchModel(network, card, threads=1)
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    model.predict(pixels, statistics)
    expected = (pixels.astype(np.float32) - np.float32([30000, 5])) / np.float32([3, -0.25])
    np.testing.assert_array_equal(seen[0], expected.transpose(0, 3, 1, 2))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_near_float32(file):
    full = load(file, device="cpu", precision="fp32", threads=1)
    half = load(file, device="cpu", precision="bf16", threads=1)
    expected, found = (model.logits(batch(), STATISTICS) for model in (full, half))
    assert found.dtype == np.float32
    scale = np.abs(expected).max()
    assert 0 < np.abs(found - expected).max() < 0.05 * scale
    assert {weight.dtype for weight in half.network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tile_size_moves_a_label_only_where_scores_tie(file, precision):
    model = load(file, device="cpu", precision=precision, threads=1)
    image = np.random.default_rng(5).integers(0, 256, (67, 101, 2), dtype=np.uint8)
    small, large = (tiled_logits(model, image, STATISTICS, tile) for tile in (16, 104))
    best = np.sort(large, axis=0)
    noise = np.abs(small - large).max()
    assert noise < (2e-5 if precision == "fp32" else 0.1) * np.abs(large).max()
    differs = small.argmax(axis=0) != large.argmax(axis=0)
    assert not (differs & (best[-1] - best[-2] > 2 * noise)).any()


def test_threads_are_set_for_the_prediction_alone(network, card):
    before = torch.get_num_threads()
    wanted = before + 1
    seen = []
    model = TorchModel(network, card, threads=wanted)
    model.network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    model.predict(batch(), STATISTICS)
    worker = threading.Thread(target=model.predict, args=(batch(), STATISTICS))
    worker.start()
    worker.join()
    assert seen == [wanted, wanted]
    assert torch.get_num_threads() == before
    assert TorchModel(network, card).threads == before


def test_threads_are_given_back_after_an_error(network, card):
    before = torch.get_num_threads()
    model = TorchModel(network, card, threads=before + 1)
    with pytest.raises(ValueError, match="not legal"):
        model.predict(batch()[:, 1:], STATISTICS)
    assert torch.get_num_threads() == before


def test_no_threads_is_refused(file):
    with pytest.raises(UsageError, match=r"--threads 0 is not allowed; use 1 or more"):
        load(file, device="cpu", threads=0)


def test_working_memory_grows_with_the_tile_and_shrinks_with_precision(file):
    full = load(file, device="cpu")
    half = load(file, device="cpu", precision="bf16")
    sizes = [Size(100, 100), Size(100, 300), Size(700, 300)]
    assert sorted(sizes, key=full.working_bytes) == sizes
    assert all(half.working_bytes(size) < full.working_bytes(size) for size in sizes)


# ---- devices


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", "mps"])
def test_words_that_are_no_device(device):
    with pytest.raises(UsageError, match="use auto, cpu, cuda or cuda:0"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("built", "available", "count", "device", "expected"),
    [
        (None, False, 0, "auto", "cpu"),
        (None, False, 0, "cpu", "cpu"),
        (None, False, 0, "cuda", "built without CUDA"),
        ("13.0", False, 0, "auto", "cpu"),
        ("13.0", False, 0, "cuda:0", "no CUDA device can be used here"),
        ("13.0", True, 2, "auto", "cuda:0"),
        ("13.0", True, 2, "cpu", "cpu"),
        ("13.0", True, 2, "cuda", "cuda:0"),
        ("13.0", True, 2, "cuda:1", "cuda:1"),
        ("13.0", True, 2, "cuda:2", "the devices here are cuda:0 to cuda:1"),
    ],
)
def test_devices(monkeypatch, built, available, count, device, expected):
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if expected.startswith(("cpu", "cuda")):
        assert resolve_device(device) == expected
        return
    with pytest.raises(ResourceError) as caught:
        resolve_device(device)
    assert (caught.value.id, caught.value.exit_code) == ("E-NO-CUDA", 8)
    assert expected in caught.value.message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_is_the_cpu_but_for_rounding(file):
    cpu, cuda = (load(file, device=device) for device in ("cpu", "cuda"))
    pixels = batch(2, np.uint16)
    expected, found = (model.logits(pixels, STATISTICS) for model in (cpu, cuda))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    again = cuda.predict(pixels, STATISTICS, probabilities=True)
    assert again.finite.tolist() == [True, True]
    np.testing.assert_array_equal(again.labels, found.argmax(axis=1))
