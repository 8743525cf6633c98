"""What only a fresh process can show: forks, threading layers, the cache of compiled code, light imports."""
import os
import shutil

import pytest
from fresh import MODEL, ROOT, run

# --- forks -----------------------------------------------------------------------------------------------------------

FORK = MODEL + """
import os
warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads

def in_child(check):
    # check() must be true there, and the child end as a process does
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            passed = check()
        except Exception as error:
            passed = print(repr(error))
        sys.exit(0 if passed else 1)
    end = time.monotonic() + 30
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            sys.exit("the child hangs")
        time.sleep(0.001)
    if status:
        sys.exit(f"in the child: status {status}")

def right():
    return all(np.array_equal(model(x), expected) for _ in range(3))

expected = model(x)
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forks
@pytest.mark.parametrize("delay", [0.05, 0], ids=["workers_asleep", "workers_spinning"])
def test_fork_child_computes_with_threads_of_its_own(delay):
    """The parent's workers are not there in the child, whatever they were doing."""
    script = FORK + f"""
for _ in range(5):
    assert right()
    time.sleep({delay})
    in_child(lambda: threading.active_count() == 1 and right() and threading.active_count() == 2)
    assert right() and threading.active_count() == 2
print("all equal")
"""
    assert run(script, timeout=120) == "all equal\n"


@forks
def test_fork_while_other_threads_are_inside_calls():
    """Their calls end in the parent; the child has buffers and workers of its own."""
    script = FORK + """
def call():
    while not ended:
        if not right():
            wrong.append(1)

ended, wrong = [], []
callers = [threading.Thread(target=call) for _ in range(2)]
for caller in callers: caller.start()
try:
    for _ in range(8):
        in_child(right)
        assert right()
finally:
    ended.append(1)
for caller in callers: caller.join()
print(len(wrong), "wrong")
"""
    assert run(script, timeout=120) == "0 wrong\n"


@forks
def test_fork_of_a_fork():
    script = FORK + """
def again():
    in_child(right)
    return right()

in_child(again)
print("all equal")
"""
    assert run(script, timeout=120) == "all equal\n"


# --- beside others ---------------------------------------------------------------------------------------------------


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


# --- compiled code ---------------------------------------------------------------------------------------------------


CACHE = """
import sys
from npefficient.engine import compiled
said = []
cached = compiled.found() is not None
compiled.driver(report=said.append)
print(cached, bool(said), "numba" in sys.modules, compiled.code_path().is_file())
"""


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """A cache that was empty, and what the first process said of it."""
    directory = tmp_path_factory.mktemp("cache")
    return str(directory), run(CACHE, NPEFFICIENT_CACHE=str(directory)).split()


def test_compiled_code_is_found_by_the_next_process(cold):
    directory, first = cold
    assert first[:2] == ["False", "True"] and first[3] == "True"
    assert run(CACHE, NPEFFICIENT_CACHE=directory).split() == ["True", "False", "False", "True"]


def test_a_warm_start_needs_no_numba(cold):
    """Neither Numba nor anything of our own that builds LLVM's text; llvmlite's bindings import llvmlite.ir themselves.
    """
    script = MODEL + """
from npefficient.demo import digits, weights_path
expected = model(x)
print(npefficient.create_model(checkpoint_path=weights_path()).classify(digits()[0])[0][0])
tracing = {f"npefficient.kernels.{name}" for name in ("lanes", "depthwise", "pointwise", "pool", "rows", "stem")}
tracing |= {"npefficient.engine.run", "npefficient.engine.atomics"}
print("heavy:", sorted(({"numba"} | tracing) & set(sys.modules)))
"""
    assert "heavy: []" in run(script, NPEFFICIENT_CACHE=cold[0])


def test_edited_kernel_is_compiled_anew(cold, tmp_path):
    """An edit counts in whichever file it lies, and so does its being taken back."""
    copy = tmp_path / "npefficient"
    shutil.copytree(ROOT / "npefficient", copy, ignore=shutil.ignore_patterns("__pycache__"))
    script = "import sys; sys.path.insert(0, '.')" + MODEL + """
from npefficient.engine import compiled
said = []
compiled.driver(report=said.append)
print(float(np.abs(model(x)).sum()), bool(said), npefficient.__file__)
"""
    pool, results = copy / "kernels" / "pool.py", []
    source = pool.read_text()
    edited = source.replace("average = total * share", "average = total")
    assert edited != source
    for text in (source, edited, source):
        pool.write_text(text)
        results.append(run(script, cwd=tmp_path, NPEFFICIENT_CACHE=cold[0]).split())
    (before, *first), (between, *second), (after, *third) = results
    assert [first[0], second[0], third[0]] == ["False", "True", "False"], "who had to compile"
    assert first[1] == second[1] == third[1] == str(copy / "__init__.py")
    assert before == after != between


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
