"""Where blocks run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import dask
import psutil
import pytest
import tifffile
from distributed import Client, Future, LocalCluster
from distributed.comm import CommClosedError
from tiny import noise, save_tiny_model

import tilseg
from tilseg import infer
from tilseg.errors import ResourceError
from tilseg.infer import Job, versions
from tilseg.schedule import Cluster, Workers, run_blocks, slurm
from tilseg.stores import Stores


@pytest.fixture
def job(tmp_path):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    tifffile.imwrite(tmp_path / "image.tif", noise(50, 40), photometric="rgb")
    source = tilseg.open_source(tmp_path / "image.tif")
    plan = tilseg.make_plan(source, tilseg.load_model(model), threads=1)
    Stores.create(tmp_path / "result", plan, classes=2)
    return Job(plan, str(tmp_path / "result"), versions())


@contextmanager
def _serving(job, cluster):
    with Workers(cluster) as workers, workers.serving(job) as found:
        yield found


def test_worker_processes_take_gpus_in_turn(job):
    with _serving(job, Cluster("processes", 2, gpus=("5", "7"))) as client:
        client.wait_for_workers(2)
        seen = client.run(lambda: __import__("os").environ.get("CUDA_VISIBLE_DEVICES"))
    assert sorted(seen.values()) == ["5", "7"]


@pytest.mark.parametrize("cluster", [Cluster(), Cluster("processes", 1)], ids=lambda c: c.kind)
def test_nothing_listens_beyond_this_machine(job, cluster):
    with _serving(job, cluster):
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
        _serving(job, Cluster("external", scheduler=local.scheduler_address)) as client,
    ):
        assert sum(client.nthreads().values()) == 2
    assert not errors


def test_a_block_whose_answer_dask_breaks_off_is_asked_for_again(job, monkeypatch):
    errors: list[Exception] = [
        UnboundLocalError("result"),
        TimeoutError(),
        UnboundLocalError("result"),
    ]
    result = Future.result

    def breaking(self, timeout=None):
        if errors:
            raise errors.pop()
        return result(self, timeout)

    monkeypatch.setattr(Future, "result", breaking)
    found = []
    assert run_blocks(job, range(len(job.plan.grid)), on_record=found.append) == []
    assert sorted(record.index for record in found) == list(range(len(job.plan.grid)))
    assert not errors


@pytest.mark.parametrize("cluster", [Cluster(), Cluster("processes", 1)], ids=lambda c: c.kind)
def test_kept_workers_serve_one_job_after_the_other_with_one_network(job, cluster, tmp_path):
    networks = []
    with Workers(cluster, str(tmp_path)) as workers:
        for number in (1, 2):
            folder = tmp_path / str(number) / "result"
            Stores.create(folder, job.plan, classes=2)
            mine = replace(job, folder=str(folder))
            with workers.serving(mine) as client:
                told = client.run(
                    lambda job: (__import__("os").getpid(), id(infer.worker_for(job).model)), mine
                )
                networks += told.values()
                found = client.submit(infer.compute_block, mine, 0, False).result()
            assert found.crcs == (
                Stores.open(folder, job.plan).mask.block_crc(job.plan.grid.block_at(0).write),
                *found.crcs[1:],
            )
    assert networks[0] == networks[1]
    assert not infer._kept


def test_a_scheduler_that_speaks_tls_is_reached_with_the_files_of_dasks_configuration(
    job, tmp_path
):
    """As the guide to clusters says."""
    mine = slurm._security(tmp_path)
    order = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "protocol": "tls://"}
    order |= {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "security": mine}
    key, cert = str(tmp_path / "workers.key"), str(tmp_path / "workers.crt")
    names = {"ca-file": cert, "client.cert": cert, "client.key": key}
    with LocalCluster(**order) as local:
        where = Cluster("external", scheduler=local.scheduler_address)
        assert local.scheduler_address.startswith("tls://")
        with pytest.raises(ResourceError) as caught, _serving(job, where):
            raise AssertionError("anybody could run code there")
        assert "names no certificate" in caught.value.message
        with (
            dask.config.set({f"distributed.comm.tls.{name}": path for name, path in names.items()}),
            _serving(job, where) as client,
        ):
            assert sum(client.nthreads().values()) == 2
