"""What only a fresh process can show: forks, threading layers, the cache of compiled code, light imports."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MODEL = """
import sys, threading, warnings
import numpy as np
import npefficient
x = np.random.default_rng(0).uniform(-1, 1, (1, 40, 40, 3)).astype(np.float32)
model = npefficient.create_model("lite0", num_classes=10, num_threads=2)
"""


def run(script, timeout=240, cwd=ROOT, **environment):
    """Run a script in a fresh interpreter; returns its output. A None in `environment` takes a variable away."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=cwd, env=env, capture_output=True,
                          text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_child_computes_with_threads_of_its_own():
    script = MODEL + """
import os
expected = model(x)
warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(model(x), expected) and threading.active_count() == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(model(x), expected)
print("all equal")
"""
    assert "all equal" in run(script)


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_concurrent_calls_beside_a_numba_threading_layer(layer):
    """Numba's workqueue aborts the process on concurrent calls; ours must not care which layer the user has chosen."""
    script = MODEL + """
import numba

@numba.njit(parallel=True)
def total(a):
    s = 0.0
    for i in numba.prange(a.size):
        s += a[i]
    return s

expected = model(x)
lock, wrong = threading.Lock(), []
def call():
    for _ in range(30):
        if not np.array_equal(model(x), expected):
            wrong.append(1)
        with lock:
            total(np.ones(1000))
callers = [threading.Thread(target=call) for _ in range(6)]
for caller in callers: caller.start()
for caller in callers: caller.join()
print(numba.threading_layer(), len(wrong), "wrong")
"""
    assert f"{layer} 0 wrong" in run(script, NUMBA_THREADING_LAYER=layer)


CACHE = """
import sys
from npefficient.engine import compiled
said = []
cached = compiled.is_cached()
compiled.driver(said.append)
print(cached, "numba" in sys.modules, len(said), compiled.code_path().is_file())
"""


def test_compiled_code_is_found_by_the_next_process(tmp_path):
    first, second = (run(CACHE, NPEFFICIENT_CACHE=str(tmp_path)).split() for _ in range(2))
    assert first == ["False", "True", "5", "True"]  # a headline, three kernels, the driver
    assert second == ["True", "False", "0", "True"]


def test_a_warm_start_needs_no_numba():
    """Neither Numba nor anything that builds LLVM's text of our own; llvmlite's bindings import llvmlite.ir themselves."""
    script = MODEL + """
from npefficient.demo import photos
expected = model(x)
print(model.classify(photos()[0])[0][0])
heavy = {"numba", "npefficient.kernels.lanes", "npefficient.engine.run", "npefficient.engine.atomics"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""
    run(CACHE)
    assert "heavy: []" in run(script)


def test_edited_kernel_is_compiled_anew(tmp_path):
    """An edit counts in whichever file it lies, and so does its being taken back."""
    copy = tmp_path / "npefficient"
    shutil.copytree(ROOT / "npefficient", copy)
    script = "import sys; sys.path.insert(0, '.')" + MODEL + "print(float(np.abs(model(x)).sum()), npefficient.__file__)"
    before = run(script, cwd=tmp_path, NPEFFICIENT_CACHE=str(tmp_path / "cache")).split()
    pool = copy / "kernels" / "pool.py"
    pool.write_text(pool.read_text().replace("t.store(total * factor, out)", "t.store(total, out)"))
    after = run(script, cwd=tmp_path, NPEFFICIENT_CACHE=str(tmp_path / "cache")).split()
    assert before[1] == after[1] == str(copy / "__init__.py")
    assert before[0] != after[0]


def test_nowhere_to_write_compiles_in_memory_with_one_warning(tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    script = """
import warnings
warnings.simplefilter("default")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
""" + "".join("    " + line + "\n" for line in (MODEL + "model(x); model(x)").splitlines()) + """
print([str(w.message) for w in caught])
"""
    said = run(script, NPEFFICIENT_CACHE=str(blocked))
    assert said.count("every process compiles anew") == 1 and "set NPEFFICIENT_CACHE" in said


def test_import_needs_only_numpy():
    script = """
import sys
import npefficient
heavy = {"numba", "llvmlite", "h5py", "PIL", "torch", "timm", "scipy", "weights_convert"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""
    assert "heavy: []" in run(script)


def test_a_process_ends_while_helpers_wait():
    assert "done" in run(MODEL + "model(x); print('done')", timeout=60)


def test_call_at_exit_still_answers():
    """Threads can't be started any more while the interpreter shuts down: the caller does the work alone."""
    script = MODEL + """
import atexit
atexit.register(lambda: print("sum", model(x).shape))
"""
    assert "sum (1, 10)" in run(script, timeout=60)
