"""Fixtures: timm hub folders."""
import json

import checkpoints as by_hand
import pytest


@pytest.fixture(scope="session")
def raw():
    return by_hand.save(by_hand.network(), "safetensors")


@pytest.fixture
def folder(tmp_path, raw):
    """save(what) -> a folder as timm's hub has it, with `what` as its config.json (None: without one)."""
    def save(what):
        path = tmp_path / "hub"
        path.mkdir(exist_ok=True)
        (path / "model.safetensors").write_bytes(raw)
        if what is not None:
            (path / "config.json").write_bytes(what if isinstance(what, bytes) else json.dumps(what).encode())
        return path
    return save
