"""The opcodes of a pickle: a small function for each, and a table of them."""
import re
from collections.abc import Callable

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

from .pickle_machine import PickleMachine, text
from .pickle_values import Global, Inert, Record, set_item

MAX_DEPTH = 100  # open MARKs; a state_dict needs 5
MAX_TEXT = 1 << 20  # bytes of one string in the file; in memory it may take four times as many
FROM_NUMPY = "torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, 'model.pth')"
MAX_INT = 32  # bytes of one integer
_PROTOCOL_0 = b"FPSVdglp"  # opcodes that only this protocol has
_PY2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_STOP = 0x2E


def run(m: PickleMachine):
    """Run one pickle and return its value; the machine then stands after the STOP."""
    start = m.at
    while True:
        m.budget.spend_step()
        position, code = m.at, m.take(1)[0]
        if code == _STOP:
            return _result(m, start)
        step = _STEPS.get(code)
        if step is None:
            raise WeightsError(f"pickle opcode {bytes([code])!r} at byte {position}: " + (
                "it belongs to protocol 0, from which torch itself can't load tensors; save the weights again with "
                "torch.save's default protocol" if code in _PROTOCOL_0 else "torch.save does not write it"))
        step(m)


def _result(m: PickleMachine, start: int):
    value = m.pop()
    if m.stack or m.marks:
        raise WeightsError(f"the pickle at byte {start} ends with {len(m.stack)} values left over")
    return value


def _protocol(m: PickleMachine):
    version = m.take(1)[0]
    if version > 5:
        raise WeightsError(f"pickle protocol {version}: the highest known one is 5")


def _frame(m: PickleMachine):
    size = m.take_number("<Q")
    if size > m.end - m.at:
        raise WeightsError(f"a pickle frame of {size} bytes at byte {m.at}: the file has only {m.end - m.at} left")


def _mark(m: PickleMachine):
    if len(m.marks) >= MAX_DEPTH:
        raise WeightsError(f"its pickle is nested more than {MAX_DEPTH} levels deep: checkpoints are not")
    m.marks.append(len(m.stack))


def _constant(value):
    return lambda m: m.push(value)


def _empty(make):
    return lambda m: m.push_new(make())


def _number(layout: str):
    return lambda m: m.push_new(m.take_number(layout))


def _long(layout: str):
    def step(m: PickleMachine):
        size = m.take_number(layout)
        if not 0 <= size <= MAX_INT:
            raise WeightsError(f"an integer of {size} bytes at byte {m.at} of the file: the limit is {MAX_INT}")
        m.push_new(int.from_bytes(m.take(size), "little", signed=True))
    return step


def _digits(m: PickleMachine):
    """Protocol 1's long integers (119547037146038801333356L), True (01) and False (00)."""
    line = m.take_line()
    digits = line.removesuffix("L")
    if not re.fullmatch("-?[0-9]{1,77}", digits):  # MAX_INT bytes hold up to 77 digits
        raise WeightsError(f"the number {quoted(line)} at byte {m.at} of the file: it must have at most 77 digits")
    m.push_new({"00": False, "01": True}.get(line, int(digits)))


def _text(layout: str):
    def step(m: PickleMachine):
        m.push_new(text(_take_text(m, layout)))
    return step


def _take_text(m: PickleMachine, layout: str) -> bytes:
    size = m.take_number(layout)
    if not 0 <= size <= MAX_TEXT:
        raise WeightsError(f"a string of {size} bytes at byte {m.at} of the file: the limit is {MAX_TEXT}; if it is a "
                           f"NumPy array, save torch tensors instead, {FROM_NUMPY}")
    return m.take(size)


def _old_text(layout: str):
    """Python 2's str: text if it is UTF-8, else bytes."""
    def step(m: PickleMachine):
        raw = _take_text(m, layout)
        try:
            m.push_new(raw.decode())
        except UnicodeDecodeError:
            m.push_new(raw)
    return step


def _bytes(layout: str):
    return lambda m: m.push_new(m.take(m.take_number(layout)))


def _tuple(count: int):
    def step(m: PickleMachine):
        values = [m.pop() for _ in range(count)]
        m.push_new(tuple(reversed(values)))
    return step


def _put(layout: str):
    def step(m: PickleMachine):
        index = m.take_number(layout)
        if index > len(m.memo):
            raise WeightsError(f"memo index {index} at byte {m.at} of the file: the next free one is {len(m.memo)}")
        _remember(m, index)
    return step


def _memoize(m: PickleMachine):
    _remember(m, len(m.memo))


def _remember(m: PickleMachine, index: int):
    m.budget.spend_memory(8)
    m.memo[index : index + 1] = [m.top()]


def _get(layout: str):
    def step(m: PickleMachine):
        index = m.take_number(layout)
        if index >= len(m.memo):
            raise WeightsError(f"memo index {index} at byte {m.at} of the file: only {len(m.memo)} were stored")
        m.push(m.memo[index])
    return step


def _extend(m: PickleMachine, values: list):
    target = m.top()
    if type(target) is Inert:
        target = target.items
    if type(target) is not list:
        raise WeightsError(f"its pickle appends to {quoted(target)}: it must be a list")
    m.budget.spend_memory(8 * len(values))
    target.extend(values)


def _set_items(m: PickleMachine, values: list):
    target = m.top()
    if type(target) is Inert:
        target = target.entries
    if type(target) not in (dict, Record):
        raise WeightsError(f"its pickle sets an item of {quoted(target)}: it must be a dictionary")
    if len(values) % 2:
        raise WeightsError(f"its pickle sets {len(values)} keys and values: the number must be even")
    m.budget.spend_memory(64 * len(values))
    for key, value in zip(values[::2], values[1::2]):
        set_item(m.budget, target, key, value)


def _set_item(m: PickleMachine):
    value, key = m.pop(), m.pop()
    _set_items(m, [key, value])


def _global(m: PickleMachine):
    module = m.take_line()
    m.push(_look_up(m, module, m.take_line()))


def _stack_global(m: PickleMachine):
    name, module = m.pop(), m.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise WeightsError(f"its pickle names a global by {quoted(module)} and {quoted(name)}: both must be text")
    m.push(_look_up(m, module, name))


def _look_up(m: PickleMachine, module: str, name: str) -> Global:
    return m.find_global(_PY2_MODULES.get(module, module), name)


def _reduce(m: PickleMachine):
    args, function = m.pop(), m.pop()
    m.push_new(_call(function, args))


def _call(function, args):
    if type(function) is not Global:
        raise WeightsError(f"its pickle calls {quoted(function)}: only names in the closed table can be called")
    if type(args) is not tuple:
        raise WeightsError(f"its pickle calls {quoted(function.name)} with {quoted(args)}: it must be a tuple")
    if function.call is None:
        raise WeightsError(f"its pickle calls {quoted(function.name)}, which can't be called")
    if len(args) not in function.arity:
        raise WeightsError(f"its pickle calls {quoted(function.name)} with {len(args)} arguments: it takes "
                           f"{function.arity[0]} to {function.arity[-1]}")
    return function.call(*args)


def _new_object_keywords(m: PickleMachine):
    keywords, args, cls = m.pop(), m.pop(), m.pop()
    if keywords:
        raise WeightsError(f"its pickle makes {quoted(getattr(cls, 'name', cls))} with keywords: torch.save does not")
    m.push_new(_call(cls, args))


def _build(m: PickleMachine):
    state, target = m.pop(), m.top()
    if type(target) is Inert:
        target.state = state
    elif type(target) is not Record:  # an OrderedDict's attributes (`_metadata`) are dropped
        raise WeightsError(f"its pickle sets the state of {quoted(target)}: it must be a known object")


def _instance(m: PickleMachine):
    name = f"{m.take_line()}.{m.take_line()}"
    raise WeightsError(f"its pickle makes an object of class {quoted(name)} with an opcode (INST) that torch.save does "
                       "not write: it is hostile or not a checkpoint")


def _object(m: PickleMachine):
    cls = next((value for value in m.pop_to_mark()), None)
    raise WeightsError(f"its pickle makes an object of {quoted(getattr(cls, 'name', cls))} with an opcode (OBJ) that "
                       "torch.save does not write: it is hostile or not a checkpoint")


def _persistent(m: PickleMachine):
    if m.persistent_load is None:
        raise WeightsError(f"its pickle refers to tensor data at byte {m.at - 1}, where none is allowed")
    m.push_new(m.persistent_load(m.pop()))


_STEPS: dict[int, Callable[[PickleMachine], None]] = {
    opcode[0]: step
    for opcode, step in {
        b"\x80": _protocol, b"\x95": _frame, b"(": _mark,
        b"N": _constant(None), b"\x88": _constant(True), b"\x89": _constant(False), b")": _constant(()),
        b"}": _empty(dict), b"]": _empty(list), b"\x8f": _empty(lambda: Inert("builtins.set")),
        b"J": _number("<i"), b"K": _number("<B"), b"M": _number("<H"), b"G": _number(">d"),
        b"I": _digits, b"L": _digits, b"\x8a": _long("<B"), b"\x8b": _long("<i"),
        b"\x8c": _text("<B"), b"X": _text("<I"), b"\x8d": _text("<Q"), b"U": _old_text("<B"), b"T": _old_text("<i"),
        b"C": _bytes("<B"), b"B": _bytes("<I"), b"\x8e": _bytes("<Q"), b"\x96": _bytes("<Q"),
        b"\x85": _tuple(1), b"\x86": _tuple(2), b"\x87": _tuple(3), b"t": lambda m: m.push_new(tuple(m.pop_to_mark())),
        b"q": _put("<B"), b"r": _put("<I"), b"\x94": _memoize, b"h": _get("<B"), b"j": _get("<I"),
        b"a": lambda m: _extend(m, [m.pop()]), b"e": lambda m: _extend(m, m.pop_to_mark()),
        b"\x90": lambda m: _extend(m, m.pop_to_mark()),
        b"s": _set_item, b"u": lambda m: _set_items(m, m.pop_to_mark()),
        b"c": _global, b"\x93": _stack_global, b"R": _reduce, b"\x81": _reduce, b"\x92": _new_object_keywords,
        b"b": _build, b"i": _instance, b"o": _object, b"Q": _persistent,
    }.items()
}
