"""The closed table of names that a torch pickle may use, and their meaning here.

Any other name is refused. The table has three kinds: names that describe tensors, plain containers, and classes of
objects that training scripts store beside the weights (argparse.Namespace, NumPy scalars, paths, dates ...), which are
kept as inert data. Source: torch/_utils.py and torch/_weights_only_unpickler.py (2.13).
"""
from npefficient.common.text import quoted
from npefficient.errors import WeightsError

from .pickle_values import Budget, Global, Inert, Record, set_item
from .tensors import ELEMENTS, UNREAD, Tensor, make_tensor

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8", "_UntypedStorage": "uint8",
    "ComplexDoubleStorage": "complex128", "ComplexFloatStorage": "complex64", "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8", "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
}
_DTYPE_ALIASES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32",
                  "short": "int16", "cdouble": "complex128", "cfloat": "complex64", "chalf": "complex32"}

# Classes whose objects are kept as inert data. They are never imported; calling one makes an `Inert`.
_DATA = {
    "argparse": ("Namespace",),
    "builtins": ("set", "frozenset", "complex", "slice", "range", "bytearray", "object", "list", "dict", "tuple", "int",
                 "float", "bool", "str", "bytes"),
    "collections": ("Counter", "deque"),
    "copyreg": ("_reconstructor",),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "_codecs": ("encode",),
    "numpy": ("dtype", "ndarray", "float64", "float32", "int64", "int32", "bool_"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.numeric": ("_frombuffer",),
    "numpy.core.numeric": ("_frombuffer",),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "torch": ("device", "Generator", "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine",
              "per_channel_symmetric", "per_channel_affine_float_qparams"),
    "torch._utils": ("_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage",
                     "_rebuild_nested_tensor"),  # other kinds of tensors, which a state_dict of weights does not have
    "torch.serialization": ("_get_layout",),
    "types": ("SimpleNamespace",),
}
_REMEDY = "save only the weights, torch.save(model.state_dict(), 'model.pth'), and convert that"


class TorchGlobals:
    """Looks up the names in one file's pickles; `find` is the machine's `find_global`."""

    def __init__(self, budget: Budget):
        self.budget = budget
        self.table = dict(_FIXED)
        self.table["collections", "OrderedDict"] = Global("collections.OrderedDict", self._ordered_dict, range(2))
        self.table["collections", "defaultdict"] = Global("collections.defaultdict", self._default_dict, range(3))

    def find(self, module: str, name: str) -> Global:
        known = self.table.get((module, name))
        if known is None:
            raise WeightsError(_refusal(module, name))
        return known

    def _ordered_dict(self, pairs=()):
        """OrderedDict(), or Python 2's OrderedDict([[key, value], ...])."""
        made = Record()
        if type(pairs) not in (list, tuple):
            raise WeightsError(f"its pickle makes an OrderedDict of {quoted(pairs)}: it must be a list of pairs")
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise WeightsError(f"its pickle makes an OrderedDict with the entry {quoted(pair)}: it must be a pair")
            self.budget.spend_memory(128)
            set_item(self.budget, made, *pair)
        return made

    def _default_dict(self, factory=None, entries=()):
        return self._ordered_dict(entries)


def _refusal(module: str, name: str) -> str:
    """The error message for a name that is not in the table."""
    full = quoted(f"{module}.{name}")
    if module.startswith("torch.jit") or module.startswith("__torch__"):
        return f"its pickle uses {full}: it is a TorchScript program, which can't be read; {_REMEDY}"
    if module.startswith(("torch.nn.modules", "timm.models", "timm.layers", "torchvision.models", "__main__")):
        return f"its pickle uses {full}: a whole model object, which only the program that made it can read; {_REMEDY}"
    if module.startswith("torch") and name.endswith("Storage"):
        return f"its pickle uses {full}: storages of this kind are not supported; {_REMEDY}"
    return (f"its pickle uses {full}, which is not in the closed table of names that a checkpoint may use: nothing "
            f"was run; {_REMEDY}")


# --- the meaning of the names ----------------------------------------------------------------------------------------

def _tensor_v1(storage, offset, shape, strides) -> Tensor:
    return make_tensor(storage, offset, shape, strides)


def _tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata=None) -> Tensor:
    return make_tensor(storage, offset, shape, strides, flaw=_flaw(metadata))


def _tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None) -> Tensor:
    if not isinstance(dtype, Global) or dtype not in _DTYPES:
        raise WeightsError(f"a tensor has the dtype {quoted(getattr(dtype, 'name', dtype))}: it must be one of "
                           "torch's, such as torch.float32")
    return make_tensor(storage, offset, shape, strides, dtype.meaning, flaw=_flaw(metadata))


def _flaw(metadata) -> str:
    """torch may store a tensor as the negative or conjugate of its storage; that flag must not be silently ignored."""
    if not metadata:
        return ""
    return ("is stored as a lazy negative or conjugate (torch's neg and conj flags): call .clone() or .resolve_neg() "
            "on it before saving")


def _parameter(tensor, requires_grad=True, hooks=None, state=None):
    if type(tensor) is not Tensor:
        raise WeightsError(f"a torch Parameter is made from {quoted(tensor)}: it must be a tensor")
    return tensor


def _tensor_of_type(function, cls, args, state):
    """torch._tensor._rebuild_from_type_v2: a tensor with additional attributes, which are dropped."""
    if getattr(function, "call", None) not in (_tensor_v1, _tensor_v2, _tensor_v3) or type(args) is not tuple \
            or len(args) not in function.arity:
        raise WeightsError(f"a tensor is rebuilt by {quoted(getattr(function, 'name', function))}: it must be one of "
                           "torch._utils._rebuild_tensor, _v2 or _v3")
    return function.call(*args)


def _size(values=()):
    if type(values) not in (tuple, list):
        raise WeightsError(f"a torch.Size is made from {quoted(values)}: it must be a tuple")
    return tuple(values)


_DTYPES = [Global(f"torch.{name}", meaning=_DTYPE_ALIASES.get(name, name))
           for name in [*ELEMENTS, *UNREAD, *_DTYPE_ALIASES]]


def _inert(name: str) -> Global:
    return Global(name, lambda *args: Inert(name, *args))


def _fixed_table() -> dict[tuple[str, str], Global]:
    table = {(module, name): _inert(f"{module}.{name}") for module, names in _DATA.items() for name in names}
    for module in ("torch", "torch.storage", "torch.cuda"):
        for name, element in _STORAGES.items():
            table[module, name] = Global(f"{module}.{name}", meaning=element)
    table.update({("torch", dtype.name.removeprefix("torch.")): dtype for dtype in _DTYPES})
    calls = {
        ("torch._utils", "_rebuild_tensor"): (_tensor_v1, range(4, 5)),
        ("torch._utils", "_rebuild_tensor_v2"): (_tensor_v2, range(6, 8)),
        ("torch._utils", "_rebuild_tensor_v3"): (_tensor_v3, range(7, 9)),
        ("torch._utils", "_rebuild_parameter"): (_parameter, range(3, 4)),
        ("torch._utils", "_rebuild_parameter_with_state"): (_parameter, range(4, 5)),
        ("torch.nn.parameter", "Parameter"): (_parameter, range(1, 3)),
        ("torch._tensor", "_rebuild_from_type_v2"): (_tensor_of_type, range(4, 5)),
        ("torch", "Size"): (_size, range(2)),
    }
    for (module, name), (function, arity) in calls.items():
        table[module, name] = Global(f"{module}.{name}", function, arity)
    table["torch", "Tensor"] = table["torch._tensor", "Tensor"] = Global("torch.Tensor")
    return table


_FIXED = _fixed_table()


def storage_class(value) -> str:
    """Return the element kind that a storage class stands for; raises WeightsError for anything else."""
    if not isinstance(value, Global) or not value.name.endswith("Storage") or value.meaning is None:
        raise WeightsError(f"a storage has the class {quoted(getattr(value, 'name', value))}: it must be one of "
                           "torch's, such as torch.FloatStorage")
    return value.meaning
