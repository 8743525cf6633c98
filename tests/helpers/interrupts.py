"""A program: interrupt a running model, as Ctrl-C does, and see what is left of it.

    python tests/helpers/interrupts.py signal      from another thread, amid a long batch; prints the seconds it takes
    python tests/helpers/interrupts.py anywhere    at every line of the engine in turn; prints where a worker was lost
    python tests/helpers/interrupts.py handler     call the models at every line of the engine, as a signal handler may
    python tests/helpers/interrupts.py training    at some lines of training's passes, and go on with others
"""
import collections
import linecache
import os
import signal
import sys
import threading
import time

import numpy as np
from engines import engine, pixels, weights

from npefficient.engine import workers
from npefficient.engine.training import TrainingEngine
from npefficient.model.model import Model

ENGINE = tuple(os.path.join("engine", name) for name in ("engine.py", "workers.py", "cpus.py", "compiled.py",
                                                         "training.py", "training_steps.py"))


def interrupted_by_signal(model, x, after):
    """Seconds from a SIGINT until the call has come back with KeyboardInterrupt."""
    sent = []

    def send():
        time.sleep(after)
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=send).start()
    try:
        model(x)
    except KeyboardInterrupt:
        return time.monotonic() - sent[0]
    sys.exit("the batch was done before the signal came")


def by_signal():
    x = pixels(1200, 96, 96, 3)
    expected = Model(weights("lite4", 10), num_threads=1)(x[:7])
    for threads in (1, 2, 3):
        model = Model(weights("lite4", 10), num_threads=threads)
        for after in (0.5, 0.7):
            taken = interrupted_by_signal(model, x, after)
            right = model(x[:7]).tobytes() == expected.tobytes()
            print(threads, f"{taken:.3f}", "right" if right else "WRONG")


def interrupt():
    raise KeyboardInterrupt


def interrupted_at(number, call, by=interrupt):
    """Call `by` before line `number`, counted as the engine executes them; returns its place, None after the last."""
    left, place = number, None

    def trace(frame, event, argument):
        nonlocal left, place
        path, line = frame.f_code.co_filename, frame.f_lineno
        if not path.endswith(ENGINE):
            return None
        # A `with` counts as a line once more when it is left, where Python itself takes no signal.
        if event == "line" and not linecache.getline(path, line).strip().startswith("with "):
            left -= 1
            if left == -1:
                place = f"{frame.f_code.co_name}:{line}"
                by()
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return place


def lost():
    """The workers that have not left their job after a while."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and not all(worker.job.is_free() for worker in workers.pool._workers):
        time.sleep(0.001)
    return [worker for worker in workers.pool._workers if not worker.job.is_free()]


def anywhere():
    x = pixels(3, 9, 9, 3)
    expected, e = engine("lite0", 1, 10)(x), engine("lite0", 2, 10)
    e(x)
    count, wrong = 0, 0
    for delay in (0.005, 0.0):  # workers asleep, workers that spin
        number, place = 0, ""
        while place is not None:
            time.sleep(delay)
            workers.pool._resume = 0.0
            place = interrupted_at(number, lambda: e(x))
            number += 1
            if lost():
                print("a worker was lost at", place)
                workers.pool = workers.WorkerPool()  # go on with others
            wrong += not np.array_equal(e(x), expected)
        count += number - 1
    print(f"{count} interrupts, {wrong} wrong answers", flush=True)
    os._exit(count < 100)  # a lost worker would not let this process end


def by_handler():
    """The handler calls the same model, with a size that it knows or a new one, or another model, with workers."""
    x, models = pixels(3, 9, 9, 3), [engine("lite0", 2, 10), engine("lite0", 3, 10)]
    other = pixels(1, 9, 11, 3)
    expected, also = (engine("lite0", 1, 10)(pictures) for pictures in (x, other))
    plans = collections.deque(maxlen=50)  # their memory stays while a late worker may be in it
    count, wrong = 0, 0

    def handle():
        nonlocal wrong
        wrong += not np.array_equal(models[count % 2](other), also)

    for delay in (0.005, 0.0):  # workers asleep, workers that spin
        number, place, made = 0, "", []
        while place is not None:
            time.sleep(delay)
            workers.pool._resume = 0.0
            plans.append(models[0]._plans.copy())
            models[0]._plans.clear()
            place = interrupted_at(number, lambda: made.append(models[0](x)), handle)
            wrong += not np.array_equal(made.pop(), expected)
            number += 1
            count += 1
    print(f"{count} calls in a handler, {wrong} wrong answers")


def in_training():
    x, dlogits, given = pixels(2, 33, 9, 3), pixels(2, 10), weights("lite0", 10)

    def gradients(threads):
        passes = TrainingEngine(given.architecture, x.shape, threads)
        passes.forward(given.parameters, x)
        return passes.backward(dlogits)

    expected, number, count, wrong, place = gradients(1), 0, 0, 0, ""
    while place is not None:
        place = interrupted_at(number, lambda: gradients(2))
        number += 199  # of some 20,000 lines
        count += 1
        if lost():
            print("a worker was lost at", place)
            workers.pool = workers.WorkerPool()
        wrong += any((array != expected[name]).any() for name, array in gradients(2).items())
    print(f"{count - 1} interrupts, {wrong} wrong answers", flush=True)
    os._exit(count < 100)  # as above


if __name__ == "__main__":
    {"signal": by_signal, "anywhere": anywhere, "handler": by_handler, "training": in_training}[sys.argv[1]]()
