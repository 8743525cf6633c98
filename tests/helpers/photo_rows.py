"""The rows that one process writes for photos, to compare other ways of making them with."""
import pyarrow.parquet

from npefficient.commands import main

COUNT = 24  # photos, two of them bad


def one_process(place, photos, output, *more) -> int:
    """Classify photos into place/output; returns the exit code."""
    return main(["classify", str(photos), "--weights", str(place / "small.h5"), "--output", str(place / output), *more])


def rows(path):
    """The rows of a file, or of a directory of files sorted by their names."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return pyarrow.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in files])
