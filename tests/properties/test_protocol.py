"""Any sequence of starts, kills, tears, second starts and rot: the promise of a run on disk.

The protocol is the real one, and so are the kills: each start is a process forked from this one,
which SIGKILLs itself before its n-th change of the file system. Only what takes time is not
real: the network is a comparison, and blocks are computed in turn.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damage, flip_bit
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tiny import STEADY, noise, save_tiny_model, tree

import tilseg
from tilseg import infer
from tilseg.card import read_card
from tilseg.errors import DamageError, LockedError, TilsegError
from tilseg.infer import BlockWorker
from tilseg.model import BandStatistics, Prediction
from tilseg.plan import Plan, TileGrid
from tilseg.receptive_field import ReceptiveField
from tilseg.source import Source, open_source
from tilseg.verbs import stages
from tilseg.window import Size
from tilseg.workspace import Workspace

SHAPE = Size(53, 67)
FIELD = ReceptiveField(halo=4, stride=4, offset=0)
PIXELS = noise(*SHAPE)
MODELS = ("first", "second")
BUG = 99
# Of each machine; more of the same promise is in benchmarks/chaos.
EXAMPLES, STEPS = 8, 18
# Where there is memory for files, syncing them costs nothing.
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Comparison:
    """A model whose classes are a comparison of every pixel with a number of its own."""

    def __init__(self, path: str) -> None:
        self.uri = path
        self.card = read_card(path)
        self.sha256 = Path(path).stem
        self.field = FIELD
        self.device = "cpu"
        self.tta = "none"

    def predict(
        self, batch: np.ndarray, statistics: BandStatistics, *, probabilities: bool = False
    ) -> Prediction:
        inner = batch[:, FIELD.halo : -FIELD.halo, FIELD.halo : -FIELD.halo, 0]
        limit = 90 if self.sha256 == "first" else 160
        labels = (inner > limit).astype(np.uint8)
        return Prediction(labels, np.ones(len(batch), bool))

    def working_bytes(self, size: Size) -> int:
        return 0


def _plan(source: Source, model: Path) -> Plan:
    plan = tilseg.make_plan(source, Comparison(str(model)), tile=12, threads=1)
    return replace(plan, grid=TileGrid(SHAPE, FIELD, Size(12, 12), Size(2, 1)), auto=())


def _in_turn(job: Any, pending: Any, *, on_begin: Any, on_record: Any, **_: Any) -> list[Any]:
    worker = BlockWorker(job)
    for index in reversed(list(pending)):
        on_begin(index)
        on_record(worker.compute(index))
    return []


def _die_before(change: int) -> Callable[..., None]:
    """Count the changes of the file system, and kill this process before number `change`."""
    left = change

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            count()

    sys.addaudithook(hook)
    synced = os.fsync

    def sync(handle: int) -> None:
        count()
        synced(handle)

    os.fsync = sync
    # Lines of the journal pass no hook, but each is followed by a step of progress.
    return lambda _: count()


def _start(
    plan: Plan, output: Path, *, change: int | None, overwrite: bool, outputs: tuple[str, ...]
) -> int:
    """Run in a process of its own; the exit code, or -9."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = BUG
    try:
        infer.load_model = lambda path, **_: Comparison(path)
        stages.run_blocks = _in_turn
        progress = (lambda _: None) if change is None else _die_before(change)
        tilseg.run(plan, output, outputs=outputs, overwrite=overwrite, progress=progress)
        code = 0
    except TilsegError as error:
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Protocol(RuleBasedStateMachine):
    """What bears the final name is nothing, or a whole result of one of the two models."""

    suffix = ".tilseg"
    outputs: tuple[str, ...] = ("zarr",)
    # About as many as a start makes that nobody kills.
    changes = 290
    models: Path
    whole: dict[str, Any]

    @initialize(seed=st.integers(0, 2**32))
    def open(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.output = self.folder / f"x{self.suffix}"
        self.source = open_source(PIXELS)
        # What may bear the final name now.
        self.there: set[str | None] = {None}

    def start(self, model: str, change: int | None, overwrite: bool) -> int:
        code = _start(
            _plan(self.source, self.models / f"{model}.safetensors"),
            self.output,
            change=change,
            overwrite=overwrite,
            outputs=self.outputs,
        )
        assert code != BUG
        return code

    @rule(model=st.sampled_from(MODELS), late=st.booleans(), overwrite=st.booleans())
    def kill(self, model: str, late: bool, overwrite: bool) -> None:
        change = self.rng.randrange(self.changes * 3 // 4 if late else 0, self.changes)
        code = self.start(model, change, overwrite)
        assert code in ((0, -9) if overwrite else (0, -9, 10))
        if overwrite:
            self.there |= {model, None}
        elif None in self.there:
            self.there |= {model}

    @rule(model=st.sampled_from(MODELS), overwrite=st.booleans())
    def finish(self, model: str, overwrite: bool) -> None:
        code = self.start(model, None, overwrite)
        if code == 0:
            self.there = {model}
            assert self.read() == self.whole[model]
            # An unfinished run of the other model may wait for its own `--overwrite`.
            assert not overwrite or not list(self.folder.glob(".*"))
        else:
            # Another result or another unfinished run is in the way.
            assert code == 10
            assert not overwrite

    @rule()
    def tear(self) -> None:
        space = Workspace(self.output)
        if space.partial.exists() and not self.announced():
            damage(space.partial, self.rng)

    @rule(model=st.sampled_from(MODELS), overwrite=st.booleans())
    def second(self, model: str, overwrite: bool) -> None:
        with Workspace(self.output).lock.held():
            before = tree(self.folder, without=())
            assert self.start(model, None, overwrite) == LockedError.exit_code
            assert tree(self.folder, without=()) == before

    @precondition(lambda self: self.output.exists() and not self.announced())
    @rule(renew=st.booleans())
    def rot(self, renew: bool) -> None:
        receipt = self.output.with_name(f"{self.output.name}.json")
        found = [*self.output.rglob("*"), self.output, receipt]
        path = self.rng.choice([path for path in found if path.is_file()])
        whole = path.read_bytes()
        flip_bit(path, self.rng)
        try:
            damaged = [each.path for each in tilseg.verify(self.output)]
            assert len(damaged) == 1
            assert path == self.output or path == self.output / damaged[0]
        except DamageError:
            assert path in (receipt, self.output / "run.json")
        if renew:
            self.finish("first", True)
        else:
            path.write_bytes(whole)

    @invariant()
    def final_name_tells_the_truth(self) -> None:
        if not hasattr(self, "output"):
            return
        if not self.output.exists():
            assert None in self.there
        elif not self.announced():
            assert tilseg.verify(self.output) == []
            found = self.read()
            assert any(found == self.whole[model] for model in self.there if model)

    def announced(self) -> bool:
        """Whether a receipt is published before its file, which the next start puts in place."""
        receipt = self.output.with_name(f"{self.output.name}.json")
        found = Workspace(self.output).partial.glob("result.*/run.json")
        return any(
            receipt.exists() and receipt.read_bytes() == ready.read_bytes() for ready in found
        )

    def read(self) -> Any:
        return tree(self.output) if self.output.is_dir() else self.output.read_bytes()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


class ProtocolOfOneFile(Protocol):
    """The same for a mask that is one file, with its receipt beside it."""

    suffix = ".tif"
    outputs = ("tif",)
    changes = 180


@pytest.mark.parametrize("machine", [Protocol, ProtocolOfOneFile])
def test_the_promise_holds_after_any_sequence(tmp_path_factory, machine):
    folder = tmp_path_factory.mktemp("models")
    source = open_source(PIXELS)
    whole = {}
    for model in MODELS:
        path = save_tiny_model(folder / f"{model}.safetensors", normalization=STEADY)
        output = folder / f"{model}{machine.suffix}"
        code = _start(
            _plan(source, path), output, change=None, overwrite=False, outputs=machine.outputs
        )
        assert code == 0
        whole[model] = tree(output) if output.is_dir() else output.read_bytes()
    assert whole["first"] != whole["second"]
    made = type(machine.__name__, (machine,), {"models": folder, "whole": whole})
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )
