"""Find the network in a checkpoint: the key in its dictionary, and the prefix of its names.

Training scripts wrap twice: they put the state_dict in a dictionary with the rest of the run's state ("state_dict",
"ema" ..), and the network in a module of their own, which adds a prefix to all names ("module.", "model.backbone." ..).
"""
from collections import Counter

from npefficient.common.text import listed, quoted
from npefficient.errors import WeightsError

from .naming import module_names
from .pickle_opcodes import FROM_NUMPY
from .pickle_values import Inert, Record
from .tensors import Tensor

# The first four are in the order of timm/models/_helpers.py `load_state_dict`: averaged weights come first.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net", "module", "ema", "params")
_COUNTERS = ("n_averaged", "total_ops", "total_params")  # added to the weights by torch's AveragedModel and by thop
_SAVE = "save the weights with torch.save(model.state_dict(), 'model.pth')"
_ARRAYS = ("._reconstruct", "._frombuffer", ".ndarray")  # functions by which a pickle makes a NumPy array
_PIECES = 4  # maximum number of parts of a module's name, as in "blocks.0.0.conv_pw"
_ENOUGH = 120  # names with one prefix that make a network: lite0 has 247, plus 49 batch counts


def is_dict(value) -> bool:
    return type(value) in (dict, Record)


def find_state(value, key: str | None = None) -> tuple[str, dict[str, Tensor], list[str]]:
    """Find the state_dict in the object of a checkpoint; returns (key it was under, name -> tensor, warnings).

    `key` selects it; "" is the whole object. Raises WeightsError if there is none.
    """
    if not is_dict(value):
        raise WeightsError(f"it contains {quoted(value)}, not a dictionary of tensors: {_SAVE}")
    found = [name for name in WRAPPERS if is_dict(value.get(name))]
    wrapper = key if key is not None else found[0] if found else ""
    if wrapper and wrapper not in value:
        raise WeightsError(f"it has no entry {quoted(wrapper)} (--key): its entries are {listed(value)}")
    state = value[wrapper] if wrapper else value
    if not is_dict(state):
        raise WeightsError(f"its entry {quoted(wrapper)} is {quoted(state)}, not a dictionary of tensors: {_SAVE}")
    tensors, warnings = _tensors(state, f"its entry {quoted(wrapper)}" if wrapper else "it")
    more = [name for name in found if name != wrapper] if key is None and wrapper not in WRAPPERS[:2] else []
    if more:
        warnings.append(f"it has more dictionaries that may hold weights: {listed(more)}. Those in {wrapper!r} are "
                        "used; --key NAME (key=) selects others")
    return wrapper, tensors, warnings


def _tensors(state: dict, what: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a state_dict, and a warning if there are plain values beside them."""
    if not state:
        raise WeightsError(f"{what} contains no tensors: {_SAVE}")
    arrays = [name for name, value in state.items() if type(value) is Inert and value.name.endswith(_ARRAYS)]
    if arrays:
        raise WeightsError(f"{what} contains NumPy arrays, not torch tensors ({listed(arrays, 3)}): save them with "
                           f"{FROM_NUMPY}")
    tensors = {name: value for name, value in state.items() if type(name) is str and type(value) is Tensor}
    others = [name for name in state if name not in tensors]
    strange = [name for name in others if not _is_plain(state[name])]
    if strange or not tensors:
        raise WeightsError(f"{what} contains other things than named tensors: {listed(others)}; weights are expected "
                           f"in {listed(WRAPPERS, 99)}, else in the whole file: --key NAME (key=) selects a different "
                           "entry")
    return tensors, [_left_out(others)] if others else []


def _is_plain(value) -> bool:
    """True for a plain number or string, such as an epoch or a note."""
    return type(value) in (type(None), bool, int, float, str) or type(value) is Inert and value.name.endswith(".scalar")


def find_network(tensors: dict, prefix: str | None = None) -> tuple[dict, str, list[str]]:
    """Find the network's tensors by their names; returns (name -> tensor, prefix removed, warnings).

    The prefix is the one with enough of a network's names after it; `prefix` sets it explicitly. Names with a different
    prefix, or none, are left out. Raises WeightsError for several networks, and for a prefix that no name has.
    """
    owners = {name: _prefix(name) for name in tensors}
    counts = Counter(owner for owner in owners.values() if owner is not None)
    fits = [owner for owner, count in counts.items() if count >= _ENOUGH]
    if prefix is None:
        if len(fits) > 1:
            raise WeightsError(f"it contains {len(fits)} networks, with the prefixes {listed(fits)}: choose one with "
                               "--prefix TEXT (prefix=)")
        prefix = fits[0] if fits else ""
    elif not any(name.startswith(prefix) for name in tensors):
        raise WeightsError(f"none of its names begins with {quoted(prefix)} (--prefix): they are {listed(tensors, 4)}")
    chosen, others = {}, []
    for name, tensor in tensors.items():
        elsewhere = owners[name] != prefix and owners[name] in fits
        if name.startswith(prefix) and not elsewhere and name.rpartition(".")[2] not in _COUNTERS:
            chosen[name.removeprefix(prefix)] = tensor
        else:
            others.append(name)
    twice = next((name for name in others if name in chosen and not fits[1:]), None)
    if twice:
        raise WeightsError(f"the tensor {quoted(twice)} appears twice, once with the prefix {quoted(prefix)}")
    return chosen, prefix, [_left_out(others)] if others else []


def _left_out(names: list) -> str:
    return f"not part of the network and left out: {listed(names, 3)}"


def _prefix(name: str) -> str | None:
    """The prefix before a network's module name in `name`; None if it has no such module name."""
    module = name.rpartition(".")[0]
    pieces = module.rsplit(".", _PIECES)  # bounded, because a hostile file may have very long names
    for start in range(max(0, len(pieces) - _PIECES), len(pieces)):
        known = ".".join(pieces[start:])
        if known in module_names():
            return module[: len(module) - len(known)]
    return None
