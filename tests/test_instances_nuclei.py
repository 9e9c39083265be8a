"""Instances of real nuclei, and of a field of discs that is one region: the same in all blocks."""

from __future__ import annotations

import importlib.util

import numpy as np
import tifffile
from conftest import ROOT
from instances_oracle import in_blocks
from skimage.measure import label, regionprops
from skimage.segmentation import relabel_sequential

from tilseg.instance_rule import Border, Watershed


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _labels(real_data):
    for path in sorted((real_data / "nuclei_dsb2018" / "labels").glob("*.tif"))[:20]:
        yield relabel_sequential(tifffile.imread(path))[0]


def _blocks(shape):
    rows, cols = shape
    return (rows // 2 + 3, cols // 3 + 1), (rows // 3 + 5, cols // 2 + 7)


def _found(truth, labels):
    """Nuclei of the truth that share more than half of their union with an object."""
    found, areas = 0, np.bincount(labels.ravel())
    for nucleus in regionprops(truth):
        inside = labels[nucleus.slice][nucleus.image]
        best = np.bincount(inside).argmax()
        shared = np.count_nonzero(inside == best)
        found += best > 0 and 2 * shared > nucleus.area + areas[best] - shared
    return found


def test_twenty_pictures_of_nuclei(real_data):
    nuclei = joined = cut = 0
    for truth in _labels(real_data):
        mask = (truth > 0).astype(np.uint8)
        expected = in_blocks(mask, Watershed(), mask.shape)
        for block in _blocks(mask.shape):
            np.testing.assert_array_equal(in_blocks(mask, Watershed(), block), expected)
        nuclei += truth.max()
        joined += _found(truth, label(mask, connectivity=2))
        cut += _found(truth, expected)
    # Of a perfect mask, what the cut finds is a matter of shape alone.
    assert nuclei > 500
    assert nuclei - cut < (nuclei - joined) / 2


def test_nuclei_with_a_border_class_are_grown_back(real_data):
    # What a network with a border class would ideally give.
    prepare = _module(ROOT / "pipelines" / "nuclei" / "prepare.py")
    nuclei = found = 0
    for truth in _labels(real_data):
        mask = prepare.with_borders(truth)
        expected = in_blocks(mask, Border(4, 2), mask.shape)
        for block in _blocks(mask.shape):
            np.testing.assert_array_equal(in_blocks(mask, Border(4, 2), block), expected)
        nuclei += truth.max()
        found += _found(truth, expected)
    assert found > 0.95 * nuclei


def test_a_field_of_touching_discs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench = _module(ROOT / "benchmarks" / "instances.py")
    mask = bench.field(19, 23)
    assert label(mask, connectivity=2).max() < 5
    expected = in_blocks(mask, Watershed(), mask.shape)
    assert expected.max() == 19 * 23
    for block in ((101, 67), (64, 349)):
        np.testing.assert_array_equal(in_blocks(mask, Watershed(), block), expected)
