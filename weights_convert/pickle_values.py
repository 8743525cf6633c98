"""What a pickle may build, and what it may cost.

Dictionary keys are single values only, and counted, so that no file can buy much time with colliding hashes.
"""
from collections.abc import Callable
from dataclasses import dataclass

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

MAX_STEPS = 500_000  # opcodes; lite4's state_dict twice and its optimizer have 66,000; all of them take about a second
MAX_KEYS = 100_000  # dictionary entries in all
MAX_NUMBER_KEYS = 10_000  # of them not text: numbers hash to themselves, so their collisions can be chosen


@dataclass
class Budget:
    """What one file may cost; shared by all pickles in it."""

    memory: int  # bytes
    steps: int = MAX_STEPS
    keys: int = MAX_KEYS
    number_keys: int = MAX_NUMBER_KEYS

    @classmethod
    def for_file(cls, size: int) -> "Budget":
        """The file's own size, and 16 MiB for small ones."""
        return cls(memory=(16 << 20) + size)

    def spend_step(self):
        self.steps -= 1
        if self.steps < 0:
            raise WeightsError(f"its pickle has more than {MAX_STEPS} steps: no checkpoint of this network needs that")

    def spend_memory(self, count: int):
        self.memory -= count
        if self.memory < 0:
            raise WeightsError("its pickle unpacks to 16 MiB more than the whole file has: it is broken or hostile")

    def spend_key(self, key):
        self.keys -= 1
        self.number_keys -= not isinstance(key, str)
        if min(self.keys, self.number_keys) < 0:
            raise WeightsError(f"its dictionaries have more than {MAX_KEYS} keys, or {MAX_NUMBER_KEYS} that are not "
                               "text: no checkpoint of this network needs that")


@dataclass(frozen=True, slots=True)
class Global:
    """A name from the closed table: `call(*args)` builds a value, or the name itself stands for `meaning`."""

    name: str
    call: Callable | None = None
    arity: range = range(256)  # how many arguments `call` takes
    meaning: object = None


class Record(dict):
    """A dictionary that may have had attributes (an OrderedDict); they are dropped."""

    __slots__ = ()


class Inert:
    """An object of a known class, kept as data: no code of that class is imported or run."""

    __slots__ = ("name", "args", "state", "items", "entries")

    def __init__(self, name: str, *args):
        self.name, self.args, self.state, self.items, self.entries = name, args, None, [], {}

    def __sizeof__(self):
        return 256  # with its empty list and dictionary


def set_item(budget: Budget, target: dict, key, value):
    """One entry of a dictionary; keys are single values of bounded cost, and none comes twice."""
    if type(key) not in (str, int, float, bool, bytes, type(None)) or type(key) is int and abs(key) >> 64:
        raise WeightsError(f"{quoted(key)} as a dictionary key: only text and small numbers are")
    budget.spend_key(key)
    if key in target:
        raise WeightsError(f"the dictionary key {quoted(key)} comes twice")
    target[key] = value
