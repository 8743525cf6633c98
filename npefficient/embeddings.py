"""The pooled features of photos, computed once and kept on disk.

One file for each folder of photos and each network: `<cache>/embeddings/<folder>-<network>.npz`. The network's half of
the name is a hash of all that an embedding depends on beside the photo: every weight but the classifier's, the
preprocessing, and what computes it (this package, Pillow, the processor). A photo is known by its path, its size and
the times at which its content and its inode were changed, which costs no reading: a hash of the content would take as
long as a photo's own reading. Whatever replaces a file, even with the old times set back, changes the inode's.

The files hold arrays only (NumPy's format without pickles, in a zip whose checksums are verified), are replaced as a
whole, and hold no photo that is gone from its folder; above LIMIT bytes in all, those unused for longest are deleted.
"""
import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .architecture import HEAD_CHANNELS
from .parameters import Weights
from .paths import cache_directory, replacing

LIMIT = 2**31  # bytes in the cache: 400,000 embeddings


@dataclass(frozen=True)
class Embeddings:
    """Pooled features of the photos that could be read."""

    values: np.ndarray  # float32 (N, 1280)
    places: np.ndarray  # int64 (N,): their places among the photos given
    bad: list[tuple[Path, str]]  # the others, and why
    computed: int  # photos that were decoded; the rest came out of the cache


def embed(weights: Weights, photos: list[Path], store: "Store | None", *, num_threads: int = 1, workers: int | None = None,
          batch_size: int = 1, advance: Callable[[int], None] = lambda n: None) -> Embeddings:
    """Compute the embeddings of `photos`, or take them from `store` where it has them, and keep them there.

    `advance` is called with the number of photos that are done. What was computed is kept even when it ends early, with
    an error or with Ctrl-C.
    """
    stamps = [stamp(photo) for photo in photos]
    kept = store.read() if store else {}
    values = np.empty((len(photos), HEAD_CHANNELS), np.float32)
    missing = []
    for place, mark in enumerate(stamps):
        if mark in kept:
            values[place] = kept[mark]
        else:
            missing.append(place)
    advance(len(photos) - len(missing))
    done, bad = [], []
    try:
        for place, row, error in _compute(weights, photos, missing, num_threads, workers, batch_size):
            if error is None:
                values[place] = row
                done.append(place)
            else:
                bad.append((photos[place], error))
            advance(1)
    finally:
        known = np.array(sorted(set(range(len(photos))) - set(missing) | set(done)), np.int64)
        if store and (done or len(known) < len(kept)):
            store.write([stamps[place] for place in known], values[known])
    return Embeddings(values[known], known, bad, len(done))


def _compute(weights: Weights, photos, missing: list[int], num_threads: int, workers, batch_size: int):
    """(place, embedding or None, error or None) for each of the missing photos."""
    if not missing:
        return
    from .model import Model
    from .stream import stream

    outcomes = stream(Model(weights, num_threads=num_threads), [photos[place] for place in missing],
                      outputs=("global_pool",), workers=workers, batch_size=batch_size)
    with contextlib.closing(outcomes):
        for place, outcome in zip(missing, outcomes):
            yield place, outcome.outputs and outcome.outputs["global_pool"], outcome.error


def stamp(photo: Path) -> tuple:
    """What a photo is known by: (path, size, times of change in ns); (path,) where it can't be examined."""
    try:
        found = os.stat(photo)
    except OSError:
        return (os.fsencode(photo),)
    return os.fsencode(photo), found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Store:
    """The file with the embeddings of one folder by one network."""

    def __init__(self, folder: Path, weights: Weights, say: Callable[[str], None]):
        """say: told in a line when the file is damaged or can't be written, which costs time and nothing else."""
        self.key, self.say = network_key(weights), say
        place = hashlib.sha256(os.fsencode(Path(folder).resolve())).hexdigest()
        self.path = cache_directory() / "embeddings" / f"{place[:16]}-{self.key[:16]}.npz"

    def read(self) -> dict[tuple, np.ndarray]:
        """Stamp -> embedding, float32 (1280,); empty where there is no file or it is damaged."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            return {}
        except OSError as problem:
            self.say(f"cache {str(self.path)!r}: it can't be read ({problem.strerror}); every photo is computed again")
            return {}
        with file:
            try:
                return self._parse(file)
            except Exception as problem:  # a broken zip or array shows in a dozen ways
                self.say(f"cache {str(self.path)!r} is damaged ({type(problem).__name__}: {problem}); every photo is "
                         "computed again")
                return {}

    def _parse(self, file) -> dict[tuple, np.ndarray]:
        with np.load(file, allow_pickle=False) as arrays:
            key, names, marks, values = (arrays[name] for name in ("key", "names", "marks", "values"))
        names = names.tobytes().split(b"\0")[:-1]
        if key.tobytes().decode() != self.key or marks.shape != (len(names), 3) or marks.dtype != np.int64:
            raise ValueError("not the embeddings of this network")
        if values.shape != (len(names), HEAD_CHANNELS) or values.dtype != np.float32 or not np.isfinite(values).all():
            raise ValueError(f"embeddings {values.dtype} {values.shape}")
        return {(name, *mark): row for name, mark, row in zip(names, marks.tolist(), values)}

    def write(self, stamps: list[tuple], values: np.ndarray) -> None:
        """Replace the file; where that fails, say so and leave the old one."""
        arrays = {"key": np.frombuffer(self.key.encode(), np.uint8),
                  "names": np.frombuffer(b"".join(mark[0] + b"\0" for mark in stamps), np.uint8),
                  "marks": np.array([mark[1:] for mark in stamps], np.int64).reshape(-1, 3), "values": values}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path, force=True, mode=0o600) as part, open(part, "wb") as file:
                np.savez(file, **arrays)
            _shrink(self.path.parent, self.path)
        except OSError as problem:
            self.say(f"cache {str(self.path)!r}: it can't be written ({problem.strerror or problem}); the next run "
                     "computes every photo again")


def _shrink(directory: Path, keep: Path) -> None:
    """Delete the oldest files until the rest has at most LIMIT bytes; `keep` stays."""
    files = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in directory.glob("*.npz")), reverse=True)
    total = 0
    for _, size, path in files:
        total += size
        if total > LIMIT and path != keep:
            path.unlink(missing_ok=True)


def network_key(weights: Weights) -> str:
    """A hash of all that an embedding depends on beside its photo, 64 hex digits; the classifier is no part of it."""
    from PIL import __version__ as pillow

    from . import __version__
    from .kernels.processor import identity

    network = weights.architecture
    digest = hashlib.sha256(repr((__version__, pillow, identity(), network.name, network.in_chans,
                                  weights.preprocessing)).encode())
    for name, array in sorted(weights.parameters.items()):
        if not name.startswith("classifier."):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
