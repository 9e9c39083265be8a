"""Publishing is one rename, repaired when it was interrupted."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest

from tilseg.durable import seal
from tilseg.errors import ExistsError, LockedError, OutputError
from tilseg.ownership import check_apart
from tilseg.workspace import LONGEST_NAME, RECEIPT, Workspace


def _ready(space: Workspace, word: str, *, aux: bool = True) -> None:
    space.begin({"fingerprint": {}, "plan": {}})
    names = ["mask.tif", "mask.tif.aux.xml"][: 1 + aux]
    for name in names:
        (space.result / name).write_text(word)
    receipt = {
        "fingerprint": {"word": word},
        "plan": {},
        "bad_tiles": [],
        "blocks": [],
        "files": dict.fromkeys(names, ""),
    }
    (space.result / RECEIPT).write_text(seal(receipt))


def _word(space: Workspace) -> str:
    """What the mask in place says, which must be what its receipt says."""
    mask = space.final / "mask.tif" if space.final.is_dir() else space.final
    receipt = space.receipt()
    assert receipt is not None
    assert receipt["fingerprint"]["word"] == mask.read_text()
    aux = mask.with_name(f"{mask.name}.aux.xml")
    assert aux.exists() == ("mask.tif.aux.xml" in receipt["files"])
    assert not aux.exists() or aux.read_text() == mask.read_text()
    assert space.missing(receipt) == []
    return mask.read_text()


@pytest.fixture(params=["slide.tilseg", "slide.tif"])
def space(tmp_path, request):
    found = Workspace(tmp_path / request.param)
    with found.lock.held():
        yield found


def _only_the_result_is_there(space: Workspace) -> bool:
    names = {space.final.name, space.lock.path.name} | (
        {f"{space.final.name}.json", f"{space.final.name}.aux.xml"} if space.single else set()
    )
    return {path.name for path in space.final.parent.iterdir()} == names


def test_publish_leaves_the_result_and_nothing_else(space):
    _ready(space, "new")
    assert space.unfinished() == {"fingerprint": {}, "plan": {}}
    space.publish()
    assert _word(space) == "new"
    assert _only_the_result_is_there(space)


class _Killed(BaseException):
    pass


def _die_after(patch: pytest.MonkeyPatch, step: int) -> None:
    """Let that many changes of the directory happen, and no more."""
    calls = 0

    def dying(real):
        def call(*arguments, **kwargs):
            nonlocal calls
            calls += 1
            if calls > step:
                raise _Killed
            return real(*arguments, **kwargs)

        return call

    for name in ("rename", "replace", "rmdir", "unlink"):
        patch.setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("step", range(10))
def test_interrupted_anywhere_old_or_new_is_there_whole(space, monkeypatch, step):
    _ready(space, "old")
    space.publish()
    _ready(space, "new")
    with monkeypatch.context() as patch, contextlib.suppress(_Killed):
        _die_after(patch, step)
        space.publish()
    space.repair()
    assert _word(space) in ("old", "new")
    if _word(space) == "old":
        space.publish()
    space.repair()
    assert _word(space) == "new"
    assert _only_the_result_is_there(space)


@pytest.mark.parametrize("step", range(10))
def test_what_lay_beside_the_old_file_goes_with_it(tmp_path, monkeypatch, step):
    space = Workspace(tmp_path / "slide.tif")
    with space.lock.held():
        _ready(space, "old")
        space.publish()
        _ready(space, "new", aux=False)
        with monkeypatch.context() as patch, contextlib.suppress(_Killed):
            _die_after(patch, step)
            space.publish()
        space.repair()
        if _word(space) == "old":
            space.publish()
        assert _word(space) == "new"
        assert not (tmp_path / "slide.tif.aux.xml").exists()


def test_what_somebody_else_put_beside_a_file_is_not_touched(tmp_path):
    space = Workspace(tmp_path / "slide.tif")
    aux = tmp_path / "slide.tif.aux.xml"
    with space.lock.held():
        aux.write_text("<mine/>")
        with pytest.raises(ExistsError, match=r"slide\.tif\.aux\.xml") as caught:
            space.receipt()
        assert caught.value.id == "E-EXISTS-FOREIGN"
        aux.unlink()
        _ready(space, "old", aux=False)
        space.publish()
        aux.write_text("<mine/>")
        _ready(space, "new")
        with pytest.raises(ExistsError, match=r"slide\.tif\.aux\.xml") as caught:
            space.publish()
        assert caught.value.id == "E-EXISTS-ADDED"
    assert aux.read_text() == "<mine/>"


def test_what_tilseg_did_not_make_is_not_touched(space):
    thesis = space.final if space.single else space.final / "thesis.txt"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work")
    with pytest.raises(ExistsError) as caught:
        space.receipt()
    assert caught.value.id == "E-EXISTS-FOREIGN"
    assert thesis.read_text() == "years of work"


def test_a_file_that_only_has_the_name_of_a_receipt_is_not_touched(tmp_path):
    notes = tmp_path / "slide.tif.json"
    notes.write_text('{"mine": true}')
    with pytest.raises(ExistsError) as caught:
        Workspace(tmp_path / "slide.tif").receipt()
    assert caught.value.id == "E-EXISTS-FOREIGN"
    assert notes.read_text() == '{"mine": true}'


def test_a_flipped_bit_of_a_receipt_is_seen_but_leaves_it_ours(space):
    _ready(space, "old")
    space.publish()
    receipt = space.final.with_name("slide.tif.json") if space.single else space.final / RECEIPT
    whole = receipt.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        receipt.write_bytes(damaged)
        space.check_ours()
        with pytest.raises(ExistsError) as caught:
            space.receipt()
        assert caught.value.id == "E-EXISTS-DAMAGED"


def test_a_file_put_into_a_result_is_not_removed_with_it(tmp_path):
    space = Workspace(tmp_path / "slide.tilseg")
    with space.lock.held():
        _ready(space, "old")
        space.publish()
        _ready(space, "new")
        notes = space.final / "notes.txt"
        notes.write_text("weeks of work")
        with pytest.raises(ExistsError, match=r"holds notes\.txt, which tilseg did not") as caught:
            space.publish()
        assert caught.value.id == "E-EXISTS-ADDED"
        assert _word(space) == "old"
        notes.rename(tmp_path / "notes.txt")
        space.publish()
        assert _word(space) == "new"
        assert (tmp_path / "notes.txt").read_text() == "weeks of work"


@pytest.mark.parametrize("suffix", ["partial", "old", "trash"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_hidden_places_that_somebody_else_uses_are_left_alone(tmp_path, suffix, kind):
    space = Workspace(tmp_path / "slide.tilseg")
    place = tmp_path / f".slide.tilseg.{suffix}"
    mine = tmp_path / "mine" if kind == "link" else place
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    if kind == "link":
        place.symlink_to(mine)
    with space.lock.held(), pytest.raises(ExistsError) as caught:
        space.repair()
    assert caught.value.id == "E-EXISTS-FOREIGN"
    assert (place / "thesis.txt").read_text() == "years of work"


def test_a_damaged_plan_is_not_continued(space):
    _ready(space, "new")
    whole = space.plan.read_bytes()
    space.plan.write_bytes(whole.replace(b"plan", b"plam"))
    with pytest.raises(ExistsError) as caught:
        space.unfinished()
    assert caught.value.id == "E-PARTIAL-DAMAGED"


def test_publishing_needs_the_lock(space):
    _ready(space, "new")
    space.lock.path.unlink()
    with pytest.raises(LockedError) as caught:
        space.publish()
    assert caught.value.id == "E-LOCK-LOST"
    assert not space.final.exists()


@pytest.mark.parametrize("before", [None, "old"])
def test_an_owner_that_slept_before_its_last_rename_publishes_nothing(space, monkeypatch, before):
    if before is not None:
        _ready(space, before)
        space.publish()
    _ready(space, "late")
    other, check = Workspace(space.final), space.lock.check

    def check_and_sleep():
        check()
        with other.lock.held(take_over=True):
            other.repair()
            # It makes everything anew and has come half the way.
            (other.result / "mask.tif").write_text("half")

    monkeypatch.setattr(space.lock, "check", check_and_sleep)
    with pytest.raises((LockedError, OutputError)):
        space.publish()
    assert (other.result / "mask.tif").read_text() == "half"
    if before is None:
        assert not space.final.exists()
    else:
        assert _word(space) == before


def test_of_two_starts_the_later_has_the_result(tmp_path):
    space = Workspace(tmp_path / "slide.tilseg")
    with space.lock.held():
        _ready(space, "new")
        late = space.partial / "result.1" / "mask.zarr"
        late.mkdir(parents=True)
        again = Workspace(space.final)
        again.repair()
        assert list(again.partial.glob("result.*")) == [again.result]
        assert (again.result / "mask.tif").read_text() == "new"


@pytest.mark.parametrize("name", [".x.tilseg.partial", ".x.old", ".x.tif.trash", ".x.lock"])
def test_an_output_has_no_name_that_another_works_under(tmp_path, name):
    with pytest.raises(OutputError) as caught:
        Workspace(tmp_path / name).check_parent()
    assert caught.value.id == "E-OUTPUT-NAME"


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    (tmp_path / ".slide.tilseg.lock").symlink_to(thesis)
    with pytest.raises(ExistsError) as caught:
        Workspace(tmp_path / "slide.tilseg").check_parent()
    assert caught.value.id == "E-EXISTS-FOREIGN"


def test_a_disk_that_refuses_is_an_error_of_the_output(space, monkeypatch):
    _ready(space, "new")

    def refuse(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError, match="Input/output error"):
            space.publish()
    assert not space.final.exists()
    space.publish()
    assert _word(space) == "new"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"its folder .*nowhere does not exist"):
        Workspace(tmp_path / "nowhere" / "x.tilseg").check_parent()


def test_what_is_missing_of_a_result_is_named(tmp_path):
    """Files count wherever they lie, and links for what they lead to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0").touch()
    final = tmp_path / "slide.tilseg"
    (final / "mask.zarr" / "0" / "c").mkdir(parents=True)
    (final / "mask.zarr" / "1").mkdir()
    (final / "mask.zarr" / "0" / "c" / "0").touch()
    (final / "linked").symlink_to(tmp_path / "elsewhere")
    (final / "dangling").symlink_to(tmp_path / "nowhere")
    there = ["mask.zarr/0/c/0", "linked/0"]
    gone = ["dangling", "mask.tif", "mask.zarr/0/c/1", "mask.zarr/1", "mask.zarr/2/c/0"]
    assert Workspace(final).missing({"files": dict.fromkeys(there + gone, "")}) == gone
    nowhere = Workspace(tmp_path / "none.tilseg")
    assert nowhere.missing({"files": {"mask.tif": ""}}) == ["mask.tif"]


def test_a_name_that_leaves_no_room_for_a_run_is_refused(tmp_path):
    longest = tmp_path / ("x" * LONGEST_NAME)
    Workspace(longest).check_parent()
    with Workspace(longest).lock.held():
        assert len(list(tmp_path.iterdir())) == 1
        with pytest.raises(LockedError), Workspace(longest).lock.held():
            pass
    for more in (1, 300):
        space = Workspace(tmp_path / ("x" * (LONGEST_NAME + more)))
        check_apart(space.places, [tmp_path / "image.tif"])
        with pytest.raises(OutputError, match=r"bytes, and runs have room for") as caught:
            space.check_parent()
        assert caught.value.id == "E-OUTPUT-NAME"
