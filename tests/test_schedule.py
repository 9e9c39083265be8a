"""Where blocks run."""

from __future__ import annotations

import psutil
import pytest
import tifffile
from tiny import noise, save_tiny_model

import tilseg
from tilseg.infer import Job, versions
from tilseg.schedule import Cluster, connect
from tilseg.sinks.zarr import MaskStore


@pytest.mark.parametrize("cluster", [Cluster(), Cluster("processes", 1)], ids=lambda c: c.kind)
def test_nothing_listens_beyond_this_machine(tmp_path, cluster):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    tifffile.imwrite(tmp_path / "image.tif", noise(50, 40), photometric="rgb")
    source = tilseg.open_source(tmp_path / "image.tif")
    plan = tilseg.make_plan(source, tilseg.load_model(model), threads=1)
    store = MaskStore.create(tmp_path / "mask.zarr", plan.grid.shape, plan.grid.block)
    with connect(Job(plan, str(store.path), versions()), cluster):
        here = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening <= {"127.0.0.1", "::1"}
