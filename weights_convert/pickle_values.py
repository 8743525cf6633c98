"""The values that a pickle may build, and the limits of their cost.

Dictionary keys are simple values, and their number is limited, so that colliding hashes can't take much time.
"""
from collections.abc import Callable
from dataclasses import dataclass

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

MAX_STEPS = 500_000  # opcodes, about a second; two state_dicts of lite4 and an optimizer have 66,000
MAX_KEYS = 100_000  # dictionary entries in total
MAX_NUMBER_KEYS = 10_000  # keys other than text: a number is its own hash, so a file can choose the collisions


@dataclass
class Budget:
    """What one file may still cost; shared by all pickles in it."""

    memory: int  # bytes
    steps: int = MAX_STEPS
    keys: int = MAX_KEYS
    number_keys: int = MAX_NUMBER_KEYS

    @classmethod
    def for_file(cls, size: int) -> "Budget":
        """Memory: the file's own size, plus 16 MiB."""
        return cls(memory=(16 << 20) + size)

    def spend_step(self):
        self.steps -= 1
        if self.steps < 0:
            raise WeightsError(f"its pickle has more than {MAX_STEPS} steps: no checkpoint of this network needs that")

    def spend_memory(self, count: int):
        self.memory -= count
        if self.memory < 0:
            raise WeightsError("its pickle unpacks to over 16 MiB more than the file's size: it is broken or hostile")

    def spend_key(self, key):
        self.keys -= 1
        self.number_keys -= not isinstance(key, str)
        if min(self.keys, self.number_keys) < 0:
            raise WeightsError(f"its dictionaries have more than {MAX_KEYS} keys, or {MAX_NUMBER_KEYS} that are not "
                               "text: no checkpoint of this network needs that")


@dataclass(frozen=True, slots=True)
class Global:
    """A name in the closed table: `call(*args)` builds a value, or the name itself stands for `meaning`."""

    name: str
    call: Callable | None = None
    arity: range = range(256)  # allowed numbers of arguments of `call`
    meaning: object = None


class Record(dict):
    """A dictionary that may have had attributes (an OrderedDict), which are dropped."""

    __slots__ = ()


class Inert:
    """An object of a known class, kept as plain data: its class is neither imported nor run."""

    __slots__ = ("name", "args", "state", "items", "entries")

    def __init__(self, name: str, *args):
        self.name, self.args, self.state, self.items, self.entries = name, args, None, [], {}

    def __sizeof__(self):
        return 256  # including its empty list and dictionary


def set_item(budget: Budget, target: dict, key, value):
    """Set one entry of a dictionary; keys must be unique simple values, whose hashes are cheap."""
    if type(key) not in (str, int, float, bool, bytes, type(None)) or type(key) is int and abs(key) >> 64:
        raise WeightsError(f"{quoted(key)} as a dictionary key: it must be text or a small number")
    budget.spend_key(key)
    if key in target:
        raise WeightsError(f"the dictionary key {quoted(key)} appears twice")
    target[key] = value
