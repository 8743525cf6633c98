"""Options and reports of the test suite, and fixtures of several rooms."""
import functools
import os
import re

import pytest


def pytest_configure(config):
    # Most tests ask models with random weights for classes; test_classify.py tests the warning itself.
    config.addinivalue_line("filterwarnings", "ignore:.*random weights can't tell classes apart:UserWarning")
    # Photos of every kind are compared with Pillow's; test_photo_file.py tests the warning itself.
    config.addinivalue_line("filterwarnings", "ignore:.* are clipped to 0..255:UserWarning")
    # Tests use a fixed number of threads on any machine.
    config.addinivalue_line("filterwarnings", "ignore:.* they take turns, which is slower:UserWarning")


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="fail when any test is skipped")
    parser.addoption("--may-skip", action="append", default=[], metavar="TEXT",
                     help="but for those whose reason has this text, or one of several")


def pytest_itemcollected(item):
    # Several processes can share the tests only if each collects the same names.
    if re.search(r" at 0x[0-9a-f]", item.nodeid):
        raise pytest.UsageError(f"{item.nodeid} has another name in each process: give its parameters `ids`")


def _skipped(reporter):
    return reporter.stats.get("skipped", [])


def _forbidden(reporter, config):
    """The reports of tests that must not be skipped."""
    allowed = config.getoption("--may-skip")
    return [report for report in _skipped(reporter)
            if config.getoption("--no-skips") and not any(text in report.longrepr[2] for text in allowed)]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and _forbidden(reporter, session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    skipped = _skipped(terminalreporter)
    if not skipped:
        return
    verdict = "and --no-skips makes that a failure" if _forbidden(terminalreporter, config) else "the rest holds"
    terminalreporter.section(f"{len(skipped)} NOT CHECKED, {verdict}", red=True, bold=True)
    for report in skipped:
        terminalreporter.line(f"{report.nodeid}: {report.longrepr[2]}")


@pytest.fixture
def command(capsys):
    """command("list", ...) -> (exit code, stdout, stderr) of `npefficient`."""
    from npefficient.commands import main

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse
            code = leaving.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def nothing_at_hand(monkeypatch):
    """As without official weights, neither in the cache nor in a package."""
    from npefficient import hub
    from npefficient.hub import packaged, places

    for module in (hub, places):
        monkeypatch.setattr(module, "kept", lambda name: None)
    monkeypatch.setattr(packaged, "find", lambda package: None)


@pytest.fixture
def bench(command):
    """bench("peak", ...) -> (exit code, stdout, stderr) of `npefficient bench`."""
    return functools.partial(command, "bench")


@pytest.fixture
def unlistable(monkeypatch):
    """unlistable(folder): from now on the system refuses to list this folder; chmod would not stop root."""

    def refuse(folder):
        listdir = os.listdir

        def stand_in(path="."):
            if str(path) == str(folder):
                raise PermissionError(13, "Permission denied")
            return listdir(path)

        monkeypatch.setattr(os, "listdir", stand_in)

    return refuse
