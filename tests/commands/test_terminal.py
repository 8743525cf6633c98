"""What commands write suits any terminal and encoding; warnings and errors are lines, signals become exit codes."""
import dataclasses
import errno
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import Counter

import numpy as np
import pytest
from fresh import ROOT, environment
from PIL import Image
from small import small_weights

import npefficient.commands
from npefficient.commands import TRACEBACK, compare, info, main, terminal
from npefficient.common.progress import Progress
from npefficient.weights.weight_file import write_weights
from weights_convert.safetensors import safetensors_bytes

ESCAPES = "\x1b]0;title\x07\x9b31m\r\u202e"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")


def fill(folder):
    """Write photo.png, and small.h5, whose labels few encodings contain."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(folder / "photo.png")
    write_weights(folder / "small.h5", dataclasses.replace(small_weights(), labels=("chat", "犬", "café", "🐶", "Ω")))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, filled."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path)
    return tmp_path


def npefficient_(*arguments, code=0, shell="", cwd=None, **changes):
    """stdout and stderr of `npefficient` in a process of its own, as bytes; `shell` follows on the command line."""
    done = subprocess.run(["sh", "-c", f'exec "$@" {shell}', "-", sys.executable, "-m", "npefficient", *arguments],
                          env=environment(PYTHONPATH=str(ROOT), **changes), capture_output=True, timeout=120, cwd=cwd)
    assert done.returncode == code, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    return done.stdout, done.stderr


# --- streams ---------------------------------------------------------------------------------------------------------


def write(text, encoding):
    raw = io.BytesIO()
    stream = terminal.Stream(io.TextIOWrapper(raw, encoding, newline=""), "standard output")
    print(text, file=stream, flush=True)
    return raw.getvalue()


@pytest.mark.parametrize("encoding, expected", [
    ("utf-8", "é 犬\t\\x1b[m\n".encode()),
    ("cp1252", b"\xe9 \\u72ac\t\\x1b[m\n"), ("ascii", b"\\xe9 \\u72ac\t\\x1b[m\n"),
    ("cp932", b"\\xe9 \x8c\xa2\t\\x1b[m\n")])
def test_stream_writes_what_its_encoding_has(encoding, expected):
    assert write("é 犬\t\x1b[m", encoding) == expected


def test_stream_keeps_lines_and_escapes_the_rest():
    assert write(f"a\nb{ESCAPES}\udce9", "utf-8") == b"a\nb\\x1b]0;title\\x07\\x9b31m\\r\\u202e\\udce9\n"


def test_stream_is_otherwise_the_one_below():
    below = io.StringIO()
    stream = terminal.Stream(below, None)
    stream.writelines(["a\n", "\x07"])
    assert below.getvalue() == "a\n\\x07" and not stream.isatty() and stream.encoding is None


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_stream_that_takes_nothing_has_a_name():
    with pytest.raises(OSError, match="No space left on device: 'standard output'"):
        terminal.Stream(Full(), "standard output").write("a")
    assert terminal.Stream(Full(), None).write("a") == 1  # a failed message does not stop the command


@pytest.mark.parametrize("system, code, closed", [
    ("linux", errno.EPIPE, True), ("linux", errno.EINVAL, False), ("win32", errno.EINVAL, True),
    ("win32", errno.EPIPE, True), ("win32", errno.ENOSPC, False)])
def test_stream_whose_reader_has_gone_is_closed(monkeypatch, system, code, closed):
    """As `head` leaves it; Windows has a number of its own for that."""
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(OSError, match=f"{os.strerror(code)}: 'standard output'") as caught:
        terminal.Stream(Gone(), "standard output").write("a")
    assert isinstance(caught.value, terminal.Closed) == closed


def test_progress_keeps_its_carriage_returns():
    below = io.StringIO()
    below.isatty = lambda: True
    with Progress(2, stream=terminal.Stream(below, None)) as progress:
        progress.advance(2)
        progress.say(f"a{ESCAPES}b")
    assert "\r" in below.getvalue() and "a\\x1b]0;title\\x07\\x9b31m\\r\\u202eb\n" in below.getvalue()


def test_all_is_as_before_afterwards():
    before = sys.stdin, sys.stdout, sys.stderr, warnings.showwarning, signal.getsignal(signal.SIGTERM)
    with terminal.guarded():
        assert isinstance(sys.stdout, terminal.Stream) and callable(signal.getsignal(signal.SIGTERM))
    assert before == (sys.stdin, sys.stdout, sys.stderr, warnings.showwarning, signal.getsignal(signal.SIGTERM))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "cp932"])
def test_commands_under_an_encoding_that_lacks_letters(place, encoding):
    for arguments in (("classify", "photo.png", "--weights", "small.h5"), ("info", "small.h5"),
                      ("compare", "small.h5", "small.h5", "photo.png")):
        out, _ = npefficient_(*arguments, PYTHONIOENCODING=encoding)
        assert (b"\\U0001f436" in out or arguments[0] == "compare") and b"chat" in out
        out.decode(encoding)


ONE_OF_TWO = "classify", "photo.png", "none.png", "--weights", "small.h5"


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """What ONE_OF_TWO prints with --json, and the rows that it writes, when all streams are open."""
    folder = tmp_path_factory.mktemp("usual")
    fill(folder)
    out, _ = npefficient_(*ONE_OF_TWO, "--json", code=1, cwd=folder)
    npefficient_(*ONE_OF_TWO, "--output", "rows.jsonl", code=1, cwd=folder)
    return out, (folder / "rows.jsonl").read_bytes()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], ids=["stdin", "stdout", "stderr", "all"])
def test_closed_streams(place, usual, closed):
    """No message is written among the results, and no opened file takes the number of a closed stream."""
    printed, rows = usual
    out, _ = npefficient_(*ONE_OF_TWO, "--json", code=1, shell=closed)
    assert out == (b"" if ">&- " in closed or closed == ">&-" else printed)
    npefficient_(*ONE_OF_TWO, "--output", "closed.jsonl", code=1, shell=closed)
    assert (place / "closed.jsonl").read_bytes() == rows


def test_closed_standard_input_names_no_photo(place):
    _, err = npefficient_("classify", "-", "--weights", "small.h5", code=1, shell="<&-")
    assert err.endswith(b"npefficient: error: standard input: it names no photo; write one path on each line\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_standard_output_is_named(place):
    _, err = npefficient_("info", "small.h5", code=1, shell=">/dev/full")
    assert err == b"npefficient: error: standard output: No space left on device\n"
    npefficient_("info", "small.h5", "--size", "0", code=2, shell="2>/dev/full")


# --- names -----------------------------------------------------------------------------------------------------------


@LINUX
@pytest.mark.parametrize("name", ["\udce9", f"a{ESCAPES}\nb", "-=1+1"], ids=["no_utf8", "escapes", "formula"])
def test_commands_with_any_name(place, command, name):
    """Every subcommand reads and writes files of this name, and what it prints is harmless text."""
    kinds = ("h5", "png", "safetensors", "csv", "jsonl", "parquet", "json", "html")
    files = {kind: f"./{name}.{kind}" for kind in kinds}
    (place / "small.h5").rename(files["h5"])
    (place / "photo.png").rename(files["png"])

    def run(*arguments, code=0):
        got, out, err = command(*arguments)
        said = out + err
        assert got == code, err
        said.encode()
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(said)
        return out

    run("info", files["h5"])
    run("export", files["h5"], files["safetensors"])
    run("info", files["safetensors"])
    run("convert", files["safetensors"], "again.h5")
    run("convert", files["safetensors"], files["h5"], "--force")
    run("compare", files["h5"], "again.h5", files["png"], "--json", files["json"])
    run("classify", files["png"], "none.png", "--weights", files["h5"], code=1)
    for kind in ("csv", "jsonl", "parquet"):
        run("classify", files["png"], "--weights", files["h5"], "--output", files[kind])
        out = run("classify", files["png"], "--weights", files["h5"], "--output", files[kind], "--resume")
        assert out.splitlines()[-1].startswith("nothing to do: ") and "already has 1 row" in out
    rows = place / f"rows{name}.h5"
    run("classify", files["png"], "--weights", files["h5"], "--output", rows)
    run("classify", files["png"], "--weights", files["h5"], "--output", rows, "--resume")
    run("explain", files["png"], "--weights", files["h5"], "-o", files["html"])
    (place / "classes" / "1").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(place / "classes" / "1" / files["png"])
    run("validate", "classes", "--weights", files["h5"], "--csv", files["csv"], "--json", files["json"], "--force")
    assert all((place / file).stat().st_size for file in files.values())


# --- warnings, faults ------------------------------------------------------------------------------------------------


def test_a_warning_is_a_line_with_a_remedy(place):
    (place / "model.safetensors").write_bytes(safetensors_bytes(small_weights().parameters, {}))
    _, err = npefficient_("classify", "photo.png", "--weights", "model.safetensors")
    assert re.match("npefficient: warning: '[^']*model.safetensors': it is unclear whether these are ", err.decode())
    assert err.endswith(b"'npefficient convert --variant lite0', or the model's name in Python, confirms it\n")
    assert err.count(b"\n") == 1


def test_a_read_only_home_is_a_line(place):
    (place / "file").touch()
    _, err = npefficient_("classify", "photo.png", "--weights", "small.h5", NPEFFICIENT_CACHE=str(place / "file"))
    lines = err.decode().splitlines()
    assert sum(line.startswith("npefficient: warning: compiled code can't be kept in ") for line in lines) == 1


def test_a_fault_of_ours_has_its_own_code(command, monkeypatch):
    def run(args):
        raise RuntimeError("one\ntwo")
    monkeypatch.setattr(info, "run", run)
    code, out, err = command("info", "lite0")
    assert code == 70 and out == "" and err.count("\n") == 1 and f"{TRACEBACK}=1 shows" in err
    assert err.startswith("npefficient: error: this is a bug in npefficient (RuntimeError: one\\ntwo)")
    monkeypatch.setenv(TRACEBACK, "1")
    assert "line" in command("info", "lite0")[2] and "Traceback" in command("info", "lite0")[2]


def test_a_fault_is_no_difference(command, monkeypatch):
    monkeypatch.setattr(compare, "run", lambda args: 1 / 0)
    assert command("compare", "a.h5", "b.h5")[0] == 70


@pytest.mark.parametrize("arguments", [("classify", "photo.png", "--weights", "small.h5"), ("bench", "peak"),
                                       ("bench", "kernels", "--layer", "conv_stem"), ("bench", "model")], ids=" ".join)
def test_numba_without_its_compiler_is_named(place, arguments):
    _, err = npefficient_(*arguments, code=1, NUMBA_DISABLE_JIT="1")
    assert err.splitlines()[-1] == (b"npefficient: error: NUMBA_DISABLE_JIT is set: without compiling there is no "
                                    b"engine; unset it, or make the model in Python with backend='reference'")


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def usual_sigterm():
    """SIGTERM's default handler, since Ray may have set its own in another test."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl_c", "terminated"])
def test_interrupted_is_a_line_and_a_code(command, monkeypatch, usual_sigterm, number, code):
    monkeypatch.setattr(info, "run", lambda args: signal.raise_signal(number))
    assert command("info", "lite0") == (code, "", "npefficient: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl_c", "terminated"])
def test_interrupt_that_python_ignores_is_raised_again(command, monkeypatch, usual_sigterm, number, code):
    def run(args):
        thing = Counter()
        gone = weakref.ref(thing, lambda _: signal.raise_signal(number))
        del thing
        time.sleep(10)  # the interrupt ends it
        return gone

    monkeypatch.setattr(info, "run", run)
    assert command("info", "lite0") == (code, "", "npefficient: interrupted\n")


def test_sigterm_that_is_ignored_stays_so(command, monkeypatch):
    monkeypatch.setattr(info, "run", lambda args: signal.raise_signal(signal.SIGTERM) or 0)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert command("info", "lite0")[0] == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_main_in_another_thread(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["list"])))
    thread.start()
    thread.join()
    assert codes == [0] and npefficient.commands.SUBCOMMANDS and "tf_efficientnet_lite0" in capsys.readouterr().out
