"""A program: stop a job that writes rows at each line of its code in turn, and check that --resume completes it.

    python tests/helpers/crashes.py kill|interrupt SUFFIX FOLDER STEP

kill: the process ends there and then; interrupt: the signal of Ctrl-C comes. Each time the job goes on with
what is left, and has to come to the rows of a job that nothing has disturbed. STEP: look at every so many lines.
"""
import os
import shutil
import signal
import sys
from pathlib import Path

import job_rows
from job_rows import expected, photos, read, settings, work

import npefficient.jobs.output.h5
import npefficient.jobs.output.parquet  # noqa: F401 (imported here, so that no child has to)
from npefficient.common import paths
from npefficient.jobs import output

OURS = {paths.__file__, *map(str, Path(output.__file__).parent.glob("*.py"))}


def fresh(path):
    work(path, photos(4))


def anew(path):
    """Write over another job's file."""
    work(path, photos(4), force=True)


def longer(path):
    """Continue a finished file with a longer list, in two runs; the first one publishes as an interrupted job does."""
    work(path, photos(3), resume=True)
    with output.open_output(path, job_rows.schema(path.suffix), settings(), resume=True) as file:
        file.skip(iter(photos(3)))
        file.publish()
    work(path, photos(4), resume=True)


def again(path):
    """Replace the rows that hold an error."""
    with output.open_output(path, job_rows.schema(path.suffix), settings(), resume=True) as file:
        file.skip(iter(photos(4)))
        file.renew(row for row in expected(path.suffix, photos(4)) if row["error"])
    work(path, photos(4), resume=True)


def prepare(job, path):
    if job is anew:
        work(path, photos(9)[::-1], made=settings(model="another"))
    elif job is again:
        work(path, photos(4))
    elif job is longer:
        work(path, photos(2))


def at_line(number, stop):
    """A trace function that calls `stop` before line `number`, counted as the code executes them."""
    left = number

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in OURS:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                stop()
        return trace

    return trace


def kill(job, path, number):
    """Whether the job got as far as that line."""
    child = os.fork()
    if child == 0:
        sys.settrace(at_line(number, lambda: os._exit(9)))
        job(path)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, 9):
        sys.exit(f"the child failed: {status}")
    return status == 9


def interrupt(job, path, number):
    """Whether the job got as far as that line."""
    stopped = []

    def stop():
        stopped.append(True)
        signal.raise_signal(signal.SIGINT)

    sys.settrace(at_line(number, stop))
    try:
        job(path)
        if stopped:
            sys.exit(f"line {number}: the job did not notice")
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return bool(stopped)


def main(how, suffix, folder, step):
    count = 0
    for job in (fresh, anew, longer, again):
        number, stopped = 0, True
        while stopped:
            place = Path(folder, "crash")
            place.mkdir()
            path = place / f"out{suffix}"
            prepare(job, path)
            stopped = {"kill": kill, "interrupt": interrupt}[how](job, path, number)
            repair(job, path)
            if read(path) != expected(suffix, photos(4)):
                sys.exit(f"{job.__name__}, stopped at line {number}: {read(path)}")
            shutil.rmtree(place)
            number += int(step)
            count += stopped
    print(count, "stops, all mended")


def repair(job, path):
    """Do as a user does: --resume or, if the file is said to be another job's still, the same command again."""
    try:
        work(path, photos(4), resume=True)
    except ValueError:
        if job is not anew or read(path) not in ([], expected(path.suffix, photos(9)[::-1])):
            raise
        work(path, photos(4), force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
