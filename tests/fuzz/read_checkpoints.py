"""Read generated checkpoints: each becomes arrays or a WeightsError, within bounds; torch, where it reads one, agrees.

    python tests/fuzz/read_checkpoints.py --count 100000 --seed 1

reads the files of the seeds "1:0", "1:1", ... and counts what became of them. A file that breaks the promise is kept in
the working directory and named with its traceback. With torch and safetensors at hand every tenth file that was read is
held against them (--torch 1: every one); what they refuse by themselves is counted, and is no failure.
"""
import argparse
import collections
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "helpers")]  # for a run by hand

from fuzz.checkpoint_files import Grammar  # noqa: E402

from npefficient.errors import WeightsError  # noqa: E402
from weights_convert import Checkpoint, read_checkpoint  # noqa: E402

SECONDS = 2  # of processor time for one file of some kilobytes
MEMORY = 128 << 20  # bytes more at the peak of a run, torch's own included


def read(path: Path) -> Checkpoint | WeightsError:
    """What reading gives; anything but arrays of a bounded size or a short WeightsError fails."""
    try:
        got = read_checkpoint(path)
    except WeightsError as error:
        assert repr(str(path)) in str(error) and len(str(error)) < 1500, str(error)
        return error
    size = sum(array.nbytes for array in got.tensors.values())
    assert size <= 2 * ((16 << 20) + path.stat().st_size), f"{size} bytes"
    for array in got.tensors.values():
        assert type(array) is np.ndarray and array.flags.c_contiguous and array.dtype.isnative, repr(array)
    return got


def agrees_with_torch(got: Checkpoint, path: Path) -> bool:
    """Compare bit for bit with torch's own reader, or safetensors'; False where that refuses the file."""
    import safetensors.torch
    import torch
    try:
        if got.source.kind == "safetensors":
            value = safetensors.torch.load(path.read_bytes())
        else:
            value = torch.load(path, weights_only=False)  # runs nothing: the grammar's globals are torch's own
    except Exception:  # whatever torch says of a file that it can't read
        return False
    state = value[got.wrapper] if got.wrapper else value
    expected = {name.removeprefix(got.prefix): tensor.detach() for name, tensor in state.items()}
    assert got.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        array = tensor.contiguous().numpy()
        array = array.view(np.uint8) != 0 if array.dtype == bool else array  # torch keeps a true 2 at times
        mine = got.tensors[name]
        assert (mine.dtype, mine.shape, mine.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
    return True


def run(seed, folder: Path, *, torch: bool = False, seconds: float | None = None) -> tuple[str, str]:
    """Read the file of a seed; returns (form, how it ended). Raises what breaks the promise, and keeps the file."""
    grammar, path = Grammar(seed), folder / "fuzzed.pth"
    path.write_bytes(grammar.file())
    start = time.process_time()
    try:
        got = read(path)
        took = time.process_time() - start
        assert seconds is None or took < seconds, f"{took:.1f} s of processor time"
        if isinstance(got, WeightsError):
            return grammar.form, "refused"
        if torch:
            return grammar.form, "read, as torch" if agrees_with_torch(got, path) else "read, refused by torch"
        return grammar.form, "read"
    except Exception:
        kept = f"fuzzed-{str(seed).replace(':', '-')}.{grammar.form}"
        print(f"seed {seed!r} breaks the promise: {path.rename(kept)}", file=sys.stderr)
        raise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--torch", type=int, default=10, metavar="N", help="hold every N-th against torch; 0: none")
    given = parser.parse_args()
    outcomes, broken = collections.Counter(), 0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for i in range(given.count):
            if i == min(100, given.count - 1):  # torch is there by now
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                torch = given.torch > 0 and i % given.torch == 0
                outcomes[run(f"{given.seed}:{i}", Path(folder), torch=torch, seconds=SECONDS)] += 1
            except Exception:
                traceback.print_exc()
                broken += 1
    for (form, what), count in sorted(outcomes.items()):
        print(f"{form:12} {what:24} {count:8}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before << 10
    print(f"{given.count} files, {broken} broke the promise, {grown >> 20} MiB more at the peak")
    sys.exit(broken > 0 or grown > MEMORY)


if __name__ == "__main__":
    main()
