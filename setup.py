"""Compiled code in a wheel, for those who ask for it; everything else about packaging is in setup.cfg.

    NPEFFICIENT_SHIP=x86-64-v3,x86-64-v4,x86-64-v4-vnni python -m pip wheel --no-deps .

It is not the default: building takes Numba and a minute of computing, and whoever installs from source compiles
once, for one processor, in a fraction of that.
"""
import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

TARGETS = os.environ.get("NPEFFICIENT_SHIP")


class BuildPy(build_py):
    def run(self):
        super().run()
        objects = Path(self.build_lib).resolve() / "npefficient" / "engine" / "objects"
        shutil.rmtree(objects, ignore_errors=True)  # of an earlier build, for other targets
        if TARGETS and not self.editable_mode:
            command = [sys.executable, "-m", "npefficient", "warmup", "--for", TARGETS, "--into", str(objects)]
            subprocess.run(command, cwd=self.build_lib, check=True)


def numba() -> str:
    """The requirement in setup.cfg."""
    options = configparser.ConfigParser()
    options.read("setup.cfg")
    return next(line for line in options["options"]["install_requires"].split() if line.startswith("numba"))


if TARGETS:
    class BdistWheel(Distribution().get_command_class("bdist_wheel")):
        def get_tag(self):
            return "py3", "none", super().get_tag()[2]  # for one system and architecture, and any version of Python

    class WithObjects(Distribution):
        def has_ext_modules(self):
            return True  # what makes a wheel one for a platform

    setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel}, distclass=WithObjects, setup_requires=[numba()])
else:
    setup(cmdclass={"build_py": BuildPy})
