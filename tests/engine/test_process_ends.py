"""How a process idles and ends: no processor time between calls, no crash at the interpreter's shutdown, Ctrl-C."""
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from fresh import MODEL, PYTHON, ROOT, environment, run

SECONDS = 40  # for a whole process, on a busy machine


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """The kernels, compiled before a script has to be quick."""
    run("from npefficient.engine import compiled; compiled.driver()")


# --- rest ------------------------------------------------------------------------------------------------------------


def test_process_that_sleeps_uses_no_processor():
    """Workers spin for some milliseconds only, waiting for the next call."""
    script = MODEL + """
for _ in range(5):
    model(x)
time.sleep(0.1)
before = time.process_time()
time.sleep(0.4)
print("used", time.process_time() - before, threading.active_count())
"""
    _, used, threads = run(script, SECONDS).split()
    assert threads == "2" and float(used) < 0.02


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 0.0005, 0.1], ids=["at_once", "workers_spin", "workers_sleep"])
def test_a_process_ends_while_workers_wait(delay):
    assert run(MODEL + f"model(x); time.sleep({delay}); print('done')", SECONDS) == "done\n"


def test_a_process_ends_at_any_moment_of_a_callers_thread():
    """sys.exit while a daemon thread makes one call after another."""
    script = MODEL + """
def call():
    while True:
        model(np.concatenate([x] * 3))

model(x)
for _ in range(3):
    threading.Thread(target=call, daemon=True).start()
time.sleep({delay})
print("bye")
"""
    for delay in (0, 0.01, 0.1, 0.3):
        assert run(script.replace("{delay}", str(delay)), SECONDS) == "bye\n"


def test_a_process_waits_for_its_own_threads_calls():
    """A non-daemon thread is still computing when the main thread ends."""
    script = MODEL + """
def call():
    time.sleep(0.1)
    print(sum(np.array_equal(model(x), expected) for _ in range(20)))

expected = model(x)
threading.Thread(target=call).start()
"""
    assert run(script, SECONDS) == "20\n"


@pytest.mark.parametrize("first", [False, True], ids=["before_the_workers_end", "when_they_have_ended"])
def test_call_at_exit_still_answers(first):
    """The first atexit function runs last: by then there are no workers, and none can be started."""
    register = """
import atexit
def at_exit():
    print(np.array_equal(model(x), expected), threading.active_count())
atexit.register(at_exit)
"""
    script = register + MODEL + "expected = model(x)" if first else MODEL + "expected = model(x)" + register
    assert run(script, SECONDS) == ("True 1\n" if first else "True 2\n")


def test_first_call_of_all_at_exit():
    script = "import atexit" + MODEL + "atexit.register(lambda: print(model(x).shape))"
    assert run(script, SECONDS) == "(1, 10)\n"


@pytest.mark.parametrize("keep", [
    pytest.param("keep = Late()", id="global"),
    pytest.param("sys.late = Late()", id="sys"),
    pytest.param("import builtins; builtins.late = Late()", id="builtins"),
    pytest.param("late = Late(); late.itself = late; del late", id="cycle"),
])
def test_call_while_modules_are_taken_down(keep):
    """From __del__ at the very end: an answer, or an exception since a module is gone, but never a crash."""
    script = MODEL + """
class Late:
    def __init__(self):
        self.model, self.x, self.expected, self.print, self.equal = model, x, model(x), print, np.array_equal

    def __del__(self, Exception=Exception):
        try:
            got = self.model(self.x)
        except Exception:
            return
        if not self.equal(got, self.expected):
            self.print("wrong")

""" + keep
    assert run(script, SECONDS) == ""


def test_workers_hold_no_process_after_an_error():
    """An uncaught exception ends the process as usual."""
    done = subprocess.run([sys.executable, "-c", MODEL + "model(x); raise ValueError('enough')"], cwd=ROOT,
                          env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1 and done.stderr.endswith("ValueError: enough\n")


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("batch", [1, 2], ids=["one_by_one", "batches"])
def test_ctrl_c_interrupts_a_long_batch(batch):
    """KeyboardInterrupt comes between two pictures; later calls are right, and the process ends normally."""
    script = MODEL + f"""
long = np.broadcast_to(np.repeat(np.repeat(x, 6, 1), 6, 2), (100_000, 240, 240, 3))  # hours
forward, expected = model._network, model(x)
print("ready", flush=True)
for _ in range(2):
    try:
        forward(long) if {batch} == 2 else [forward(long[:1]) for _ in range(10**6)]
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(np.array_equal(model(x), expected), threading.active_count(), flush=True)
"""
    process = subprocess.Popen([*PYTHON, "-c", script], cwd=ROOT, env=environment(), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    killer = threading.Timer(SECONDS, process.kill)
    killer.start()
    try:
        said, took = [process.stdout.readline()], []
        for delay in (0.3, 0.17):
            time.sleep(delay)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            said.append(process.stdout.readline())
            took.append(time.monotonic() - start)
        rest, errors = process.stdout.read(), process.stderr.read()
        process.wait(SECONDS)
    finally:
        killer.cancel()
        process.kill()
        process.stdout.close()
        process.stderr.close()
    assert said == ["ready\n", "interrupted\n", "interrupted\n"] and max(took) < 1
    assert (process.returncode, rest, errors) == (0, "True 2\n", "")
