"""The committed mask: blocks, damage, pyramid and metadata, against numpy, zarr and ome-zarr."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from contracts.sink_contract import (
    CLASSES,
    PROVENANCE,
    SHAPES,
    SLIDE,
    blocks,
    committed,
    finished,
    random_mask,
    run_limited,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Multiscales, Reader
from ome_zarr_models.v05 import Image, ImageLabel
from zarr.codecs import ZstdCodec

from tilseg.errors import DamageError, ExistsError, InputError, OutputError
from tilseg.georef import Georef, PixelSize
from tilseg.sinks.shards import BlockArray, chunk_side, sweep
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window

sizes = st.tuples(st.integers(1, 97), st.integers(1, 97))
sides = st.tuples(st.integers(11, 120), st.integers(11, 120))


def tree(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def shard_of(store: MaskStore, window: Window) -> Path:
    row, col = window.row // store.block.rows, window.col // store.block.cols
    return store.path / "0" / "c" / str(row) / str(col)


# Blocks ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(size=sizes, block=sides, seed=st.integers(0, 999), data=st.data())
def test_blocks_in_any_order_make_the_image(tmp_path_factory, size, block, seed, data):
    labels = random_mask(*size, seed=seed)
    path = tmp_path_factory.mktemp("any") / "mask.zarr"
    store = committed(path, labels, Size(*block), seed)
    row, col = data.draw(st.integers(0, size[0])), data.draw(st.integers(0, size[1]))
    rows = data.draw(st.integers(0, size[0] - row))
    cols = data.draw(st.integers(0, size[1] - col))
    window = Window(row, col, rows, cols)
    np.testing.assert_array_equal(store.read(window), labels[window.slices])
    np.testing.assert_array_equal(zarr.open_array(path / "0", mode="r")[...], labels)


def test_block_is_stored_as_zarr_itself_stores_it(tmp_path):
    labels = random_mask(1024, 1536)
    store = committed(tmp_path / "ours.zarr", labels, Size(1024, 1536))
    array = zarr.create_array(
        tmp_path / "theirs.zarr",
        shape=labels.shape,
        shards=labels.shape,
        chunks=(512, 512),
        dtype=np.uint8,
        fill_value=255,
        compressors=ZstdCodec(level=3, checksum=True),
    )
    array[...] = labels
    (window,) = blocks(store)
    assert shard_of(store, window).read_bytes() == (tmp_path / "theirs.zarr/c/0/0").read_bytes()


def test_layout(tmp_path):
    MaskStore.create(tmp_path / "mask.zarr", Size(5000, 3001), Size(1940, 1552))
    meta = json.loads((tmp_path / "mask.zarr/0/zarr.json").read_text())
    (sharding,) = meta["codecs"]
    codecs = {
        codec["name"]: codec.get("configuration") for codec in sharding["configuration"]["codecs"]
    }
    assert meta["shape"] == [5000, 3001]
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [1940, 1552]
    assert sharding["configuration"]["chunk_shape"] == [485, 388]
    assert codecs["zstd"]["checksum"] is True
    assert meta["fill_value"] == 255
    assert meta["dimension_names"] == ["y", "x"]


@given(st.integers(1, 9000))
def test_chunks_divide_the_block(block):
    side = chunk_side(block)
    assert block % side == 0
    if block <= 512:
        assert side == block
    elif block % 16 == 0:
        assert 128 <= side <= 2048


def test_crc_is_of_the_bytes_in_c_order(tmp_path):
    labels = random_mask(90, 71)
    store = MaskStore.create(tmp_path / "mask.zarr", Size(90, 71), Size(64, 64))
    for window in blocks(store):
        block = labels[window.slices]
        assert store.commit(window, np.asfortranarray(block)) == zlib.crc32(block.tobytes())
        assert store.block_crc(window) == zlib.crc32(block.tobytes())


def test_block_of_nothing_but_nodata_is_stored(tmp_path):
    store = MaskStore.create(tmp_path / "mask.zarr", Size(90, 71), Size(64, 64))
    first, second, *_ = blocks(store)
    store.commit(first, np.full(first.size, 255, np.uint8))
    assert shard_of(store, first).is_file()
    assert not shard_of(store, second).exists()
    assert (store.read(second) == 255).all()


def test_eight_threads_each_block_twice(tmp_path):
    labels = random_mask(1013, 1499)
    store = MaskStore.create(tmp_path / "mask.zarr", Size(*labels.shape), Size(192, 256))
    windows = blocks(store) * 2
    random.Random(3).shuffle(windows)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda window: store.commit(window, labels[window.slices]), windows))
    np.testing.assert_array_equal(store.read(Window(0, 0, *labels.shape)), labels)
    assert tree(store.path) == tree(
        committed(tmp_path / "serial.zarr", labels, Size(192, 256)).path
    )


def test_reader_sees_the_old_block_or_the_new_one(tmp_path):
    old, new = (random_mask(256, 192, seed=seed) for seed in (1, 2))
    window = Window(0, 0, 256, 192)
    store = MaskStore.create(tmp_path / "mask.zarr", Size(256, 192), Size(256, 192))
    store.commit(window, old)
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(lambda: [store.commit(window, m) for m in (new, old) * 40])
        seen = set()
        while not writer.done():
            seen.add(store.block_crc(window))
    assert seen <= {zlib.crc32(old.tobytes()), zlib.crc32(new.tobytes())}
    assert len(writer.result()) == 80


_COMMIT = """
import sys
from contracts.sink_contract import blocks, random_mask
from tilseg.sinks.zarr import MaskStore
store = MaskStore.open(sys.argv[1])
labels = random_mask(*store.shape)
for window in blocks(store):
    store.commit(window, labels[window.slices], attempt=sys.argv[2])
"""


def test_three_processes_commit_the_same_blocks(tmp_path):
    labels = random_mask(701, 503)
    store = MaskStore.create(tmp_path / "mask.zarr", Size(*labels.shape), Size(64, 64))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    commands = [[sys.executable, "-c", _COMMIT, str(store.path), name] for name in "abc"]
    running = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    np.testing.assert_array_equal(store.read(Window(0, 0, *labels.shape)), labels)
    assert tree(store.path) == tree(committed(tmp_path / "serial.zarr", labels, 64).path)


@pytest.mark.parametrize(
    "window",
    [
        Window(0, 0, 63, 64),  # part of a block
        Window(1, 0, 64, 64),  # off the grid
        Window(64, 64, 64, 64),  # not clipped to the image
        Window(128, 0, 0, 64),  # below the image
    ],
)
def test_only_whole_blocks_are_committed(tmp_path, window):
    store = MaskStore.create(tmp_path / "mask.zarr", Size(90, 71), Size(64, 64))
    with pytest.raises(ValueError, match="is not a block"):
        store.commit(window, np.zeros(window.size, np.uint8))
    assert list(store.path.rglob("c")) == []


@pytest.mark.parametrize("labels", [np.zeros((64, 63), np.uint8), np.zeros((64, 64), np.int64)])
def test_labels_must_fit(tmp_path, labels):
    store = MaskStore.create(tmp_path / "mask.zarr", Size(90, 71), Size(64, 64))
    with pytest.raises(ValueError, match="does not fit"):
        store.commit(Window(0, 0, 64, 64), labels)


def test_reads_stay_inside(tmp_path):
    store = MaskStore.create(tmp_path / "mask.zarr", Size(90, 71), Size(64, 64))
    with pytest.raises(ValueError, match="is not inside"):
        store.read(Window(0, 0, 91, 71))


def test_leading_bands(tmp_path):
    scores = np.random.default_rng(0).integers(0, 256, (3, 131, 90), np.uint8)
    array = BlockArray.create(tmp_path / "p", Size(131, 90), Size(64, 48), bands=3)
    for window in array.windows():
        block = scores[(slice(None), *window.slices)]
        assert array.commit(window, block) == zlib.crc32(block.tobytes())
    stored = zarr.open_array(tmp_path / "p", mode="r")
    np.testing.assert_array_equal(stored[...], scores)
    assert stored.chunks == (1, 64, 48)
    np.testing.assert_array_equal(array.read(Window(60, 40, 9, 30)), scores[:, 60:69, 40:70])


# Create and open -------------------------------------------------------------------------------


def test_creating_again_keeps_the_blocks(tmp_path):
    labels = random_mask(90, 71)
    store = committed(tmp_path / "mask.zarr", labels, 64)
    again = MaskStore.create(store.path, Size(90, 71), Size(64, 64))
    np.testing.assert_array_equal(again.read(Window(0, 0, 90, 71)), labels)
    with pytest.raises(ExistsError, match="block, dtype"):
        MaskStore.create(store.path, Size(90, 71), Size(64, 32), dtype=np.uint16)


def test_opening_what_is_no_store(tmp_path):
    with pytest.raises(InputError) as missing:
        MaskStore.open(tmp_path / "nothing.zarr")
    assert missing.value.id == "E-INPUT-MISSING"
    store = committed(tmp_path / "mask.zarr", random_mask(90, 71), 64)
    (store.path / "zarr.json").write_text('{"attributes": {}}')
    with pytest.raises(InputError, match="has bad metadata"):
        MaskStore.open(store.path)
    (store.path / "0/zarr.json").write_text("{")
    with pytest.raises(InputError, match="has bad metadata"):
        MaskStore.open(store.path)


def test_unfinished_does_not_open_as_an_image(tmp_path):
    store = committed(tmp_path / "mask.zarr", random_mask(90, 71), 64)
    with pytest.raises(FileNotFoundError):
        zarr.open_group(store.path, mode="r")
    assert parse_url(str(store.path)) is None
    assert not store.finished
    assert len(store.levels) == 1
    with pytest.raises(ValueError, match="is not finished"):
        _ = store.georef


# Damage ----------------------------------------------------------------------------------------


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def torn(content: bytes) -> list[bytes]:
    cuts = [content[:length] for length in (0, 1, 7, len(content) // 2, len(content) - 1)]
    flips = [flip(content, bit) for bit in range(0, 8 * len(content), 53)]
    return [*cuts, bytes(len(content)), content[::-1], *flips]


def test_damage_is_seen_and_committed_over(tmp_path):
    labels = random_mask(90, 71)
    store = committed(tmp_path / "mask.zarr", labels, 64)
    window = blocks(store)[1]
    shard = shard_of(store, window)
    whole = shard.read_bytes()
    damaged = torn(whole)
    for content in damaged:
        shard.write_bytes(content)
        with pytest.raises(DamageError) as raised:
            store.block_crc(window)
        assert raised.value.exit_code == 12
        store.commit(window, labels[window.slices])
        assert shard.read_bytes() == whole
    assert len(damaged) > 10


def test_sweep_removes_strays_and_nothing_else(tmp_path):
    store = finished(tmp_path / "mask.zarr", random_mask(900, 710), 256)
    before = tree(store.path)
    for stray in ("0/c/1/.2.a.partial", ".zarr.json.b.partial", "1/.zarr.json.c.partial"):
        (store.path / stray).write_bytes(b"half")
    sweep(store.path)
    assert tree(store.path) == before


_FILL = """
import numpy as np
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Window
store = MaskStore.open(sys.argv[1])
store.commit(Window(0, 0, 256, 256), np.zeros((256, 256), np.uint8))
print("small")
store.commit(Window(0, 0, 256, 256), np.random.default_rng(0).integers(0, 9, (256, 256), np.uint8))
"""


def test_full_disk_keeps_the_old_block(tmp_path):
    store = MaskStore.create(tmp_path / "mask.zarr", Size(300, 256), Size(256, 256))
    result = run_limited(4000, _FILL, store.path)
    assert result.stdout.split() == ["small", "OutputError", "E-OUTPUT-WRITE"], result.stderr
    files = sorted(path.name for path in store.path.rglob("*") if path.is_file())
    assert files == ["0", "zarr.json"]
    assert (store.read(Window(0, 0, 256, 256)) == 0).all()


def test_unwritable_folder_is_an_output_error(tmp_path):
    store = MaskStore.create(tmp_path / "mask.zarr", Size(90, 71), Size(64, 64))
    (store.path / "0" / "c").write_text("a file where a folder should be")
    with pytest.raises(OutputError) as raised:
        store.commit(Window(0, 0, 64, 64), np.zeros((64, 64), np.uint8))
    assert raised.value.id == "E-OUTPUT-WRITE"


# Pyramid and metadata --------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "cols", "block"), [*SHAPES, (1511, 1049, 211), (3001, 517, 97)])
def test_levels_are_every_second_pixel(tmp_path, rows, cols, block):
    labels = random_mask(rows, cols)
    store = finished(tmp_path / "mask.zarr", labels, block)
    for k, level in enumerate(store.levels):
        expected = labels[:: 2**k, :: 2**k]
        assert level.size == expected.shape
        assert level.row_factor == level.col_factor == 2**k
        np.testing.assert_array_equal(store.read(Window(0, 0, *level.size), k), expected)
        stored = zarr.open_array(store.path / str(k), mode="r")
        np.testing.assert_array_equal(stored[...], expected)
        assert stored.chunks == (chunk_side(block), chunk_side(block))
    assert max(store.levels[-1].size) <= 512
    assert len(store.levels) == 1 or max(store.levels[-2].size) > 512


def test_finish_in_any_order_of_history_gives_the_same_bytes(tmp_path):
    labels = random_mask(1511, 1049)
    expected = tree(finished(tmp_path / "once.zarr", labels, 211).path)
    store = committed(tmp_path / "twice.zarr", labels, 211, seed=7)

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    settings_ = {
        "name": "mask",
        "classes": CLASSES,
        "georef": SLIDE,
        "background": 0,
        "provenance": PROVENANCE,
    }
    with pytest.raises(KeyboardInterrupt):
        store.finish(**settings_, progress=stop)
    assert not MaskStore.open(store.path).finished
    (store.path / "1/c/0/1").write_bytes(b"torn")
    MaskStore.open(store.path).finish(**settings_)
    assert tree(store.path) == expected
    MaskStore.open(store.path).finish(**settings_)
    assert tree(store.path) == expected


_KILLED = """
import os, signal, sys
from contracts.sink_contract import CLASSES, PROVENANCE, SLIDE
from tilseg.sinks.zarr import MaskStore
def stop(done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
store = MaskStore.open(sys.argv[1])
store.finish(
    name="mask",
    classes=CLASSES,
    georef=SLIDE,
    background=0,
    provenance=PROVENANCE,
    progress=stop,
)
"""


def test_finish_killed_and_run_again(tmp_path):
    labels = random_mask(1511, 1049)
    expected = tree(finished(tmp_path / "once.zarr", labels, 211).path)
    store = committed(tmp_path / "killed.zarr", labels, 211)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for step in (3, 14):
        command = [sys.executable, "-c", _KILLED, str(store.path), str(step)]
        done = subprocess.run(command, env=environment, check=False, timeout=120)
        assert done.returncode == -signal.SIGKILL
        assert parse_url(str(store.path)) is None
    sweep(store.path)
    store.finish(name="mask", classes=CLASSES, georef=SLIDE, background=0, provenance=PROVENANCE)
    assert tree(store.path) == expected


def test_finish_refuses_damage(tmp_path):
    store = committed(tmp_path / "mask.zarr", random_mask(900, 700), 256)
    shard_of(store, blocks(store)[4]).write_bytes(b"")
    with pytest.raises(DamageError):
        store.finish(name="mask", classes=CLASSES, georef=SLIDE, background=0)
    assert not (store.path / "zarr.json").exists()


GEOREFS = [
    Georef(),
    SLIDE,
    Georef('LOCAL_CS["ä"]', (0.1 + 0.2, 1 / 3, 4e5 / 3, -1e-17, -0.3, 5e6), PixelSize(1, 2, "m")),
]


@pytest.mark.parametrize("georef", GEOREFS)
@pytest.mark.parametrize("background", [0, 2, None])
def test_what_finish_was_told_comes_back(tmp_path, georef, background):
    store = committed(tmp_path / "mask.zarr", random_mask(90, 71), 64)
    made = {"software": "tilseg 0", "model": "ä"}
    store.finish(
        name="a/b ä", classes=CLASSES, georef=georef, background=background, provenance=made
    )
    again = MaskStore.open(store.path)
    assert again.finished
    assert (again.name, again.classes, again.georef, again.background) == (
        "a/b ä",
        CLASSES,
        georef,
        background,
    )
    assert again.provenance == made
    assert (again.shape, again.block, again.dtype) == ((90, 71), (64, 64), np.uint8)


@pytest.mark.parametrize("georef", GEOREFS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_validates_as_ome_zarr(tmp_path, georef, dtype):
    labels = random_mask(1301, 700, dtype=dtype)
    store = finished(tmp_path / "mask.zarr", labels, georef=georef)
    group = zarr.open_group(store.path, mode="r")
    label = ImageLabel.from_zarr(group)
    assert Image.from_zarr(group).attributes.ome.multiscales == label.attributes.ome.multiscales
    (multiscale,) = label.attributes.ome.multiscales
    (rows, cols), unit = (0.2527, 0.2431), "micrometer"
    if georef is not SLIDE:
        (rows, cols), unit = (1.0, 1.0), None
    assert [(axis.name, axis.type, axis.unit) for axis in multiscale.axes] == [
        ("y", "space", unit),
        ("x", "space", unit),
    ]
    for k, dataset in enumerate(multiscale.datasets):
        scale, translation = dataset.coordinateTransformations
        assert scale.scale == pytest.approx([rows * 2**k, cols * 2**k])
        # The corner of the first pixel is where that of level 0 is.
        corner = np.subtract(translation.translation, np.divide(scale.scale, 2))
        np.testing.assert_allclose(corner, [-rows / 2, -cols / 2], rtol=1e-12)
    nodata = np.iinfo(dtype).max
    info = label.attributes.ome.image_label
    assert {c.label_value: c.rgba for c in info.colors}[1] == (0x1F, 0x77, 0xB4, 255)
    assert {c.label_value: c.rgba[3] for c in info.colors} == {
        0: 0,
        1: 255,
        2: 255,
        3: 255,
        nodata: 0,
    }
    assert info.source is None


def test_opens_with_the_reference_reader(tmp_path):
    labels = random_mask(1301, 700)
    store = finished(tmp_path / "mask.zarr", labels)
    (node,) = Reader(parse_url(str(store.path)))()
    assert node.load(Label) is not None
    assert node.load(Multiscales).datasets == ["0", "1", "2"]
    for k, level in enumerate(node.data):
        np.testing.assert_array_equal(np.asarray(level), labels[:: 2**k, :: 2**k])
    assert node.metadata["name"] == "mask"
    assert node.metadata["color"][1] == [0x1F / 255, 0x77 / 255, 0xB4 / 255, 1.0]
    assert node.metadata["properties"][2] == {"name": "Fläche <&> µ"}


def test_members_are_the_levels_alone(tmp_path):
    store = finished(tmp_path / "mask.zarr", random_mask(1301, 700))
    group = zarr.open_group(store.path, mode="r")
    assert sorted(name for name, _ in group.members()) == ["0", "1", "2"]
    assert group.attrs["tilseg"]["nodata"] == 255
