"""Every module of both packages."""
import importlib
import pkgutil
import types

import npefficient
import weights_convert


def modules() -> dict[str, types.ModuleType]:
    """Full name -> module, without the `__main__` modules, which start a command when they are imported."""
    found = {package.__name__: package for package in (npefficient, weights_convert)}
    for package in (npefficient, weights_convert):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                found[module.name] = importlib.import_module(module.name)
    return found
