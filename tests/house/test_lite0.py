"""notebooks/lite0.py: one short file that imports nothing of the package, and gives timm's pixels and logits."""
import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from imagenet import GOLDEN as GOLDEN_IMAGENET
from imagenet import PHOTOS, fingerprint, needs_imagenet
from make_golden import GOLDEN, SIZES, golden_input, golden_parameters
from PIL import Image
from tolerance import LOGITS, assert_close

from npefficient import demo
from npefficient.network import architecture
from npefficient.network.parameters import Source, Weights
from npefficient.weights.weight_file import write_weights

SCRIPT = Path(__file__).parents[2] / "notebooks" / "lite0.py"
LINES = 150
IMPORTS = {"argparse", "sys", "pathlib", "numpy", "h5py", "PIL"}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("lite0", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def weight_file(tmp_path):
    """Writes the golden weights of a variant, without class names."""
    def write(variant="lite0"):
        network = architecture.build(variant)
        parameters = golden_parameters(network.parameters())
        source = Source("golden", "", "random")
        write_weights(tmp_path / "golden.h5", Weights(network, parameters, network.variant.preprocessing, None, source))
        return tmp_path / "golden.h5"

    return write


def run(*arguments, folder=None):
    """Run the script -> (exit code, stdout, stderr)."""
    done = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def how_to(text):
    """The Python that writes a weight file, from the script's message."""
    (python,) = re.findall(r'python -c "(.*)"', text)
    return python


def in_float64(parameters):
    if isinstance(parameters, dict):
        return {name: in_float64(inner) for name, inner in parameters.items()}
    return parameters.astype(np.float64)


def test_is_short_and_imports_three_packages():
    source = SCRIPT.read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {name for node in imports
             for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])}
    assert {name.split(".")[0] for name in names} == IMPORTS
    assert len(source.splitlines()) <= LINES


def test_logits_are_timms(script, weight_file):
    parameters, _, labels = script.load(weight_file())
    x, expected = golden_input(SIZES["lite0"])[0], np.load(GOLDEN)["lite0"][0]
    assert labels is None and expected.std() > 0.1
    assert_close(script.lite0(x, **parameters), expected.astype(np.float32), LOGITS)
    got = script.lite0(x.astype(np.float64), **in_float64(parameters))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


@needs_imagenet
def test_pixels_and_logits_of_photographs_are_timms(script, tmp_path):
    """The weight file is the one that the script's own message tells how to make."""
    subprocess.run([sys.executable, "-c", how_to(script.HOW_TO)], check=True, timeout=300, cwd=tmp_path)
    parameters, settings, _ = script.load(tmp_path / "lite0.h5")
    golden = np.load(GOLDEN_IMAGENET)
    pixels = [script.preprocess(Image.open(photo), **settings) for photo in PHOTOS]
    assert [fingerprint(one[None]) for one in pixels] == golden["lite0_pixels"].tolist()
    assert_close(script.lite0(pixels[0], **parameters), golden["lite0_logits"][0].astype(np.float32), LOGITS)
    code, out, err = run(PHOTOS[0], folder=tmp_path)
    assert (code, err) == (0, "") and out.splitlines()[:2] == ["  94.19%  espresso", "   1.62%  cup"]
    assert len(out.splitlines()) == 5


def test_names_come_with_the_weights():
    code, out, err = run(demo.digits()[7], "--weights", demo.weights_path())
    assert (code, err) == (0, "") and out.splitlines()[0] == "  91.02%  seven"


def test_missing_weights_are_told_with_the_commands_that_make_them(tmp_path):
    code, out, err = run(PHOTOS[0], folder=tmp_path)
    assert code == 1 and out == "" and err.startswith("weight file lite0.h5: ") and "No such file" in err
    assert "npefficient convert checkpoint.pth -o lite0.h5" in err
    ast.parse(how_to(err))


def test_weights_of_another_network_are_refused(script, weight_file):
    with pytest.raises(OSError, match="its variant is b'tf_efficientnet_lite1'"):
        script.load(weight_file("lite1"))


@pytest.mark.parametrize("name, value", [("crop_mode", b"squash"), ("interpolation", b"bilinear"),
                                         ("format", b"npefficient int8 weights"), ("global_pool", b"max")])
def test_settings_that_it_does_not_know_are_refused(script, weight_file, name, value):
    path = weight_file()
    with h5py.File(path, "r+") as file:
        file.attrs[name] = np.bytes_(value)
    with pytest.raises(OSError, match=f"its {name} is {value}"):
        script.load(path)


def test_names_that_do_not_fit_are_refused(weight_file, tmp_path):
    (tmp_path / "classes.txt").write_text("n01440764\ttench\n")
    code, out, err = run(demo.digits()[7], "--weights", weight_file(), "--classes", tmp_path / "classes.txt")
    assert code == 1 and out == "" and err.startswith("1 names for 1000 classes")
