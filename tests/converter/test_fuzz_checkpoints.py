"""Generated checkpoints with extreme numbers: arrays or WeightsError, and torch's values. By hand: tests/fuzz/."""
import collections
import tracemalloc

import numpy as np
import pytest
from fuzz import read_checkpoints
from fuzz.checkpoint_files import FORMS, Grammar
from live import needs_timm

from npefficient.errors import WeightsError
from weights_convert import read_checkpoint


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory, in which a file that fails is kept."""
    monkeypatch.chdir(tmp_path)


def test_generated_checkpoints_are_arrays_or_an_error(tmp_path):
    outcomes = collections.Counter(read_checkpoints.run(f"suite:{i}", tmp_path) for i in range(1500))
    assert set(outcomes) == {(form, what) for form in FORMS for what in ("read", "refused")}
    assert min(outcomes.values()) > 50, outcomes


@needs_timm
def test_generated_checkpoints_are_what_torch_reads(tmp_path):
    outcomes = collections.Counter(read_checkpoints.run(f"torch:{i}", tmp_path, torch=True) for i in range(600))
    assert min(outcomes[form, "read, as torch"] for form in FORMS) > 30, outcomes
    assert {what for _, what in outcomes} <= {"refused", "read, as torch", "read, refused by torch"}


def test_generated_checkpoints_take_little_memory(tmp_path):
    """For files of some kilobytes: 16 MiB for a pickle or expanded tensors, twice that for bfloat16."""
    tracemalloc.start()
    try:
        for i in range(300):
            read_checkpoints.run(f"memory:{i}", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_the_grammar_repeats_itself():
    files = [Grammar(f"again:{i}").file() for i in range(50)]
    assert files == [Grammar(f"again:{i}").file() for i in range(50)]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("form", FORMS)
def test_a_tame_file_is_read(tmp_path, form):
    """Without extreme numbers every file is read, unless it has a tensor of a kind that is not supported."""
    tame = [grammar for grammar in map(Grammar, range(300)) if grammar.wild == 0 and grammar.form == form]
    assert len(tame) > 20
    for grammar in tame:
        (tmp_path / "x.pth").write_bytes(grammar.file())
        got = read_checkpoints.read(tmp_path / "x.pth")
        assert not isinstance(got, WeightsError) or "convert it to float32" in str(got) or "big-endian" in str(got), got


@pytest.mark.parametrize("fault, message", [
    (OverflowError("too large"), "too large"), (WeightsError("no name of the file"), "no name of the file"),
    (MemoryError("all"), "all"),
])
def test_the_check_sees_another_exception(tmp_path, monkeypatch, capsys, fault, message):
    def fail(path):
        raise fault

    monkeypatch.setattr(read_checkpoints, "read_checkpoint", fail)
    with pytest.raises((type(fault), AssertionError), match=message):
        read_checkpoints.run("1:7", tmp_path)
    kept = f"fuzzed-1-7.{Grammar('1:7').form}"
    assert (tmp_path / kept).read_bytes() == Grammar("1:7").file() and kept in capsys.readouterr().err


@needs_timm
@pytest.mark.parametrize("form", FORMS)
def test_the_check_sees_another_number(tmp_path, form):
    seed = next(i for i in range(300) if read_checkpoints.run(i, tmp_path, torch=True) == (form, "read, as torch"))
    (tmp_path / "x.pth").write_bytes(Grammar(seed).file())
    got = read_checkpoint(tmp_path / "x.pth")
    for name, array in got.tensors.items():
        got.tensors[name] = np.array(array)
        if array.size:
            got.tensors[name].reshape(-1).view(np.uint8)[-1] ^= 1
    with pytest.raises(AssertionError, match="^(t|again)[0-9]"):
        read_checkpoints.agrees_with_torch(got, tmp_path / "x.pth")
