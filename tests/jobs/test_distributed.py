"""Photos on Ray: the same rows as from one process, even if a worker dies."""
import os
import runpy
import signal
import subprocess
import sys
import tempfile

import pytest
from fresh import ROOT
from photo_rows import COUNT, one_process, rows
from small import small_weights

from npefficient.commands import main
from npefficient.errors import ArgumentError, NpefficientError
from npefficient.jobs import distributed
from npefficient.jobs.distributed import Classifier
from npefficient.jobs.quantizing import quantize

# Ray warns of its own defaults.
pytestmark = pytest.mark.filterwarnings(r"ignore:.* is deprecated:DeprecationWarning:ray\.data\.context")


@pytest.fixture(scope="module")
def directory():
    """A directory for Ray's files; not one of pytest's, since paths of sockets have to be short."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as directory:
        yield directory


@pytest.fixture(scope="module")
def ray(directory, place):
    """Ray with two processors in this process; its workers' current directory is `place`."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", directory)  # Ray keeps a token there
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.chdir(place)
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
                 _temp_dir=directory)
        patch.undo()
        yield ray
    ray.shutdown()


def test_classify_starts_ray_and_writes_the_rows_of_one_process(directory, place):
    environment = {**os.environ, "HOME": directory, "RAY_TMPDIR": directory, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "npefficient", "classify", "photos", "--weights", "small.h5",
                           "--engine", "ray", "--workers", "2", "--output", "rows.parquet"],
                          cwd=place, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote rows.parquet: {COUNT} rows"
    assert done.stderr.endswith(f"npefficient: 2 of {COUNT} photos could not be read: their rows give the reason\n")
    for name in ("broken", "empty"):
        assert f"npefficient: error: photo 'photos/{name}.jpg': " in done.stderr
    got, expected = rows(place / "rows.parquet"), rows(place / "expected.parquet")
    assert expected.num_rows == COUNT and expected["error"].null_count == COUNT - 2
    assert got.equals(expected) and got.schema.metadata == expected.schema.metadata
    assert len(list((place / "rows.parquet").iterdir())) > 1


def test_addresses_of_a_folder(ray, place):
    """Ray lists and reads what is at an address; the local file system has one too."""
    assert one_process(place, place / "photos", "embeddings.parquet", "--embeddings", "--topk", "2") == 1
    got = distributed.classify([(place / "photos").as_uri()], small_weights(), (place / "remote").as_uri(),
                               processors=2, topk=2, embeddings=True)
    assert got == (COUNT, 2) and rows(place / "remote").equals(rows(place / "embeddings.parquet"))


def test_a_file_of_int8_weights(ray, place, monkeypatch):
    """It needs no precision, and gives the rows of one process that rounds the float32 weights."""
    monkeypatch.chdir(place)
    quantize("small.h5", "int8.h5")
    assert one_process(place, "photos", "int8.parquet", "--precision", "int8") == 1
    assert main(["classify", "photos", "--weights", "int8.h5", "--engine", "ray", "--output", "int8"]) == 1
    expected = rows(place / "int8.parquet")
    assert rows(place / "int8").equals(expected) and not expected.equals(rows(place / "expected.parquet"))


def test_rows_in_int8_are_those_of_one_process(ray, place):
    assert one_process(place, place / "photos", "embeddings_int8.parquet", "--embeddings", "--precision", "int8") == 1
    got = distributed.classify([(place / "photos").as_uri()], small_weights(), (place / "remote_int8").as_uri(),
                               precision="int8", embeddings=True)
    found, expected = rows(place / "remote_int8"), rows(place / "embeddings_int8.parquet")
    assert got == (COUNT, 2) and found.equals(expected) and found.schema.metadata == expected.schema.metadata


def test_a_worker_killed_half_way_loses_nothing(ray, place, tmp_path, monkeypatch):
    """It dies once, before it returns its rows; Ray starts another one, which gets the same photos."""
    marker = tmp_path / "killed"

    class Dying(Classifier):
        def __call__(self, batch):
            table = super().__call__(batch)
            if any(str(photo).endswith("00010.png") for photo in table["photo"]):
                try:
                    marker.touch(exist_ok=False)
                except FileExistsError:
                    return table
                os.kill(os.getpid(), signal.SIGKILL)
            return table

    monkeypatch.setattr(distributed, "Classifier", Dying)
    photos = rows(place / "expected.parquet")["photo"].to_pylist()
    got = distributed.classify(photos, small_weights(), str(tmp_path / "rows"), workers=2)
    assert marker.exists() and got == (COUNT, 2)
    assert rows(tmp_path / "rows").equals(rows(place / "expected.parquet"))


def test_own_pipeline_with_images_that_ray_has_decoded(ray, place):
    """As in a script; the weights are given by their path."""
    expected = [row for row in rows(place / "expected.parquet").to_pylist() if row["error"] is None]
    job = ray.data.read_images([str(place / row["photo"]) for row in expected], mode="RGB", include_paths=True,
                               num_cpus=0)
    job = job.map_batches(Classifier, fn_constructor_kwargs={"weights": str(place / "small.h5")}, batch_size=None,
                          compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1)
    got = sorted(job.take_all(), key=lambda row: row["photo"])
    assert [row | {"photo": os.path.relpath(row["photo"], place)} for row in got] == expected


def test_script_of_ten_lines(ray, place, monkeypatch):
    """The README's script; it connects to the Ray that is running."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["classify_on_ray.py", "photos", "small.h5", "script"])
    runpy.run_path(str(ROOT / "notebooks" / "classify_on_ray.py"))
    got = sorted(rows(place / "script").to_pylist(), key=lambda row: row["photo"])
    assert got == rows(place / "expected.parquet").to_pylist()


def test_a_job_that_fails_says_what_is_lost(ray, place, tmp_path, monkeypatch):
    class Broken(Classifier):
        def __call__(self, batch):
            raise RuntimeError("the roof is on fire")

    monkeypatch.setattr(distributed, "Classifier", Broken)
    with pytest.raises(NpefficientError, match="(?s)rows' is incomplete. Ray says: .*the roof is on fire"):
        distributed.classify(["photos/photo.jpg"], small_weights(), str(tmp_path / "rows"))
    monkeypatch.undo()
    assert list((tmp_path / "rows").iterdir()) == []
    assert distributed.classify([str(place / "photos" / "photo.jpg")], small_weights(), str(tmp_path / "rows"))[0] == 1


@pytest.mark.parametrize("name", ["none/none", "none.txt"])
def test_nothing_at_an_address(ray, place, tmp_path, name):
    with pytest.raises(ArgumentError, match=name):
        distributed.classify([(place / name).as_uri()], small_weights(), str(tmp_path / "rows"))


def test_output_that_exists_stays(ray, place):
    before = (place / "small.h5").read_bytes()
    for output in (place / "small.h5", place / "photos", (place / "photos").as_uri()):
        with pytest.raises(ArgumentError, match=f"output '{output}' exists already"):
            distributed.classify(["a.png"], small_weights(), str(output))
    assert (place / "small.h5").read_bytes() == before and len(list((place / "photos").iterdir())) == COUNT


def test_rows_that_lie_elsewhere_are_missed(place):
    assert distributed._counted(str(place / "expected.parquet"), COUNT) == (COUNT, 2)
    with pytest.raises(NpefficientError, match=f"expected.parquet' has only {COUNT} of 99 rows here"):
        distributed._counted(str(place / "expected.parquet"), 99)
