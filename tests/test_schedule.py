"""Where blocks run."""

from __future__ import annotations

import psutil
import pytest
import tifffile
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError
from tiny import noise, save_tiny_model

import tilseg
from tilseg.infer import Job, versions
from tilseg.schedule import Cluster, connect
from tilseg.stores import Stores


@pytest.fixture
def job(tmp_path):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    tifffile.imwrite(tmp_path / "image.tif", noise(50, 40), photometric="rgb")
    source = tilseg.open_source(tmp_path / "image.tif")
    plan = tilseg.make_plan(source, tilseg.load_model(model), threads=1)
    Stores.create(tmp_path / "result", plan, classes=2)
    return Job(plan, str(tmp_path / "result"), versions())


def test_worker_processes_take_gpus_in_turn(job):
    with connect(job, Cluster("processes", 2, gpus=("5", "7"))) as (client, _):
        client.wait_for_workers(2)
        seen = client.run(lambda: __import__("os").environ.get("CUDA_VISIBLE_DEVICES"))
    assert sorted(seen.values()) == ["5", "7"]


@pytest.mark.parametrize("cluster", [Cluster(), Cluster("processes", 1)], ids=lambda c: c.kind)
def test_nothing_listens_beyond_this_machine(job, cluster):
    with connect(job, cluster):
        here = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening <= {"127.0.0.1", "::1"}


def test_workers_that_die_while_they_are_checked_or_forgotten_are_no_error(job, monkeypatch):
    """What Dask says then: a worker that was there is not, or does not answer."""
    errors: list[Exception] = [CommClosedError("closed"), OSError("Timed out trying to connect")]
    register = Client.register_plugin

    def dying(self, *arguments, **kwargs):
        if errors:
            raise errors.pop()
        return register(self, *arguments, **kwargs)

    def forget(self, name):
        raise CommClosedError("closed")

    monkeypatch.setattr(Client, "register_plugin", dying)
    monkeypatch.setattr(Client, "unregister_worker_plugin", forget)
    order = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "protocol": "tcp"}
    order |= {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(**order) as local,
        connect(job, Cluster("external", scheduler=local.scheduler_address)) as (_, threads),
    ):
        assert threads == 2
    assert not errors
