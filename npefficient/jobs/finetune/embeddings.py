"""The pooled features of photos, computed once and kept on disk.

One file for each folder of photos and each network: `<cache>/embeddings/<folder>-<network>.npz`. The network's half of
the name is a hash of all that an embedding depends on apart from the photo: every weight but the classifier's, the
preprocessing, whether photos are rotated by EXIF, the precision, and what computes it (this package, Pillow). A photo
is identified by its path, its size and the times at which its content and its inode changed (mtime, ctime). This reads
no photo: hashing the content would take as long as reading it. Replacing a file changes its ctime, even if the old
mtime is restored.

The files hold only arrays (NumPy's format without pickles, in a zip whose checksums are verified) and are replaced as a
whole. Photos that are gone from the folder are dropped. Above LIMIT bytes in all, the least recently used files are
deleted.
"""
import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.paths import cache_directory, replacing
from ...common.private_directory import check_private, private_directory
from ...errors import ArgumentError
from ...network.parameters import Weights

LIMIT = 2**31  # bytes in the cache: 400,000 embeddings


@dataclass(frozen=True)
class Embeddings:
    """Pooled features of the photos that could be read."""

    values: np.ndarray  # float32 (N, features), 1280 of them after an average pool
    places: np.ndarray  # int64 (N,): their indices among the photos given
    bad: list[tuple[Path, str]]  # the others, and why
    computed: int  # photos that were decoded; the others came from the cache


def embed(weights: Weights, photos: list[Path], store: "Store | None" = None, *, exif: bool = False,
          precision: str = "float32", progress: bool = False, **how) -> Embeddings:
    """Return the embeddings of `photos`: from `store` where it has them, else computed and added to it.

    exif, precision: as for `stream` and `create_model`; the store's have to be the same
    progress: show the progress on stderr, if there is anything to compute
    how: max_pixels, workers and batch_size of `stream`

    What was computed is kept even if this ends early, with an error or with Ctrl-C. Raises ArgumentError for a store
    with a different `exif` or `precision`.
    """
    for name, own in (("exif", exif), ("precision", precision)):
        if store and getattr(store, name) != own:
            raise ArgumentError(f"{name}={own!r} with a store for {name}={getattr(store, name)!r}: make one with the "
                                f"same {name}")
    stamps = [store.stamp(photo) for photo in photos] if store else [None] * len(photos)
    kept = store.read() if store else {}
    places = np.arange(len(photos))
    known, bad = np.array([stamp in kept for stamp in stamps], bool), []
    values = np.zeros((len(photos), weights.architecture.head_hidden_size), np.float32)
    for place in places[known]:
        values[place] = kept[stamps[place]]
    found, missing = known.copy(), places[~known]
    try:
        for place, outcome in _compute(weights, photos, missing, precision, progress, exif=exif, **how):
            if outcome.error is None:
                values[place], found[place] = outcome.outputs["global_pool"], True
            else:
                bad.append((photos[place], outcome.error))
    finally:
        if store and (found.sum() > known.sum() or known.sum() < len(kept)):
            store.write({stamps[place]: values[place] for place in places[found]})
    return Embeddings(values[found], places[found], bad, int(found.sum() - known.sum()))


def _compute(weights: Weights, photos: list[Path], missing: np.ndarray, precision: str, progress: bool, **how):
    """(place, Outcome) for each of the missing photos."""
    if not len(missing):
        return
    from ...common.progress import Progress
    from ...model.model import Model
    from ..stream import stream

    outcomes = stream(Model(weights, num_threads=1, precision=precision), [photos[place] for place in missing],
                      outputs=("global_pool",), **how)
    shown = Progress(len(photos), done=len(photos) - len(missing)) if progress else contextlib.nullcontext()
    with contextlib.closing(outcomes), shown as counter:
        for place, outcome in zip(missing, outcomes):
            yield place, outcome
            if counter:
                counter.advance()


class Store:
    """The file with the embeddings of one folder by one network."""

    def __init__(self, folder: Path, weights: Weights, say: Callable[[str], None], exif: bool = False,
                 precision: str = "float32"):
        """say: called with a line when the file is damaged or can't be written, which only costs time

        exif: whether photos are rotated by their EXIF orientation
        precision: of the network
        """
        self.folder, self.say, self.exif, self.precision = Path(folder), say, exif, precision
        self.key, self.width = network_key(weights, exif, precision), weights.architecture.head_hidden_size
        place = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()
        self.path = cache_directory() / "embeddings" / f"{place[:16]}-{self.key[:16]}.npz"

    def stamp(self, photo: Path) -> tuple | None:
        """What identifies a photo: (path, size, mtime and ctime in ns); None where it can't be examined."""
        try:
            found = os.stat(photo)
        except OSError:
            return None
        return os.fsencode(os.path.relpath(photo, self.folder)), found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self) -> dict[tuple, np.ndarray]:
        """Stamp -> embedding, float32 (features,); empty where there is no file or it is damaged."""
        try:
            check_private(self.path)
            private_directory(self.path.parent)
            file = open(self.path, "rb")
        except FileNotFoundError:
            return {}
        except OSError as problem:
            self.say(f"cache {str(self.path)!r}: it can't be read ({problem.strerror}); every photo is computed again")
            return {}
        with file:
            try:
                kept = self._parse(file)
            except Exception as problem:  # a broken zip or array raises a dozen different classes
                self.say(f"cache {str(self.path)!r} is damaged ({type(problem).__name__}: {problem}); every photo is "
                         "computed again")
                return {}
        with contextlib.suppress(OSError):
            os.utime(self.path)  # `_shrink` deletes the least recently used first
        return kept

    def _parse(self, file) -> dict[tuple, np.ndarray]:
        with np.load(file, allow_pickle=False) as arrays:
            key, names, stamps, values = (arrays[name] for name in ("key", "names", "stamps", "values"))
        names = names.tobytes().split(b"\0")[:-1]
        if key.tobytes().decode() != self.key or stamps.shape != (len(names), 3) or stamps.dtype != np.int64:
            raise ValueError("not the embeddings of this network")
        if values.shape != (len(names), self.width) or values.dtype != np.float32 or not np.isfinite(values).all():
            raise ValueError(f"embeddings {values.dtype} {values.shape}")
        return {(name, *stamp): row for name, stamp, row in zip(names, stamps.tolist(), values)}

    def write(self, embeddings: dict[tuple | None, np.ndarray]) -> None:
        """Write stamps and their embeddings as the new file; if that fails, say so and keep the old one."""
        kept = {stamp: row for stamp, row in embeddings.items() if stamp is not None}
        arrays = {"key": np.frombuffer(self.key.encode(), np.uint8),
                  "names": np.frombuffer(b"".join(name + b"\0" for name, *_ in kept), np.uint8),
                  "stamps": np.array([stamp[1:] for stamp in kept], np.int64).reshape(-1, 3),
                  "values": np.array(list(kept.values()), np.float32).reshape(-1, self.width)}
        try:
            private_directory(self.path.parent)
            with replacing(self.path, force=True, mode=0o600) as part, open(part, "wb") as file:
                np.savez(file, **arrays)
            _shrink(self.path.parent)
        except (OSError, ArgumentError) as problem:
            why = getattr(problem, "strerror", None) or problem  # str(problem) repeats the path
            self.say(f"cache {str(self.path)!r}: it can't be written ({why}); the next run computes every photo again")


def _shrink(directory: Path) -> None:
    """Delete the least recently used files above LIMIT bytes, including what a killed process left half written."""
    files = []
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process deletes files, too
            state = path.stat()
            files.append((state.st_mtime_ns, state.st_size, path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > LIMIT:
            path.unlink(missing_ok=True)


def network_key(weights: Weights, exif: bool = False, precision: str = "float32") -> str:
    """A hash of all that an embedding depends on apart from its photo, 64 hex digits; the classifier is left out."""
    from PIL import __version__ as pillow

    from ...common.version import __version__

    network = weights.architecture
    digest = hashlib.sha256(repr((__version__, pillow, network.name, network.in_chans, network.global_pool,
                                  weights.preprocessing, exif, precision)).encode())
    for name, array in sorted(weights.parameters.items()):
        if not name.startswith("classifier."):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
