"""Where blocks run."""

from __future__ import annotations

import psutil
import pytest
import tifffile
from tiny import noise, save_tiny_model

import tilseg
from tilseg.infer import Job, versions
from tilseg.schedule import Cluster, connect
from tilseg.stores import Stores


def test_worker_processes_take_gpus_in_turn(tmp_path):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    tifffile.imwrite(tmp_path / "image.tif", noise(50, 40), photometric="rgb")
    plan = tilseg.make_plan(
        tilseg.open_source(tmp_path / "image.tif"), tilseg.load_model(model), threads=1
    )
    Stores.create(tmp_path / "result", plan, classes=2)
    job = Job(plan, str(tmp_path / "result"), versions())
    with connect(job, Cluster("processes", 2, gpus=("5", "7"))) as (client, _):
        client.wait_for_workers(2)
        seen = client.run(lambda: __import__("os").environ.get("CUDA_VISIBLE_DEVICES"))
    assert sorted(seen.values()) == ["5", "7"]


@pytest.mark.parametrize("cluster", [Cluster(), Cluster("processes", 1)], ids=lambda c: c.kind)
def test_nothing_listens_beyond_this_machine(tmp_path, cluster):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    tifffile.imwrite(tmp_path / "image.tif", noise(50, 40), photometric="rgb")
    source = tilseg.open_source(tmp_path / "image.tif")
    plan = tilseg.make_plan(source, tilseg.load_model(model), threads=1)
    Stores.create(tmp_path / "result", plan, classes=2)
    with connect(Job(plan, str(tmp_path / "result"), versions()), cluster):
        here = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening <= {"127.0.0.1", "::1"}
