"""Pickles that torch.save did not write: none may run code, and each is refused with a specific message."""
import pickle
import struct

import pytest
from checkpoints import (
    SENTINEL,
    call,
    dictionary,
    legacy_file,
    name,
    number,
    numbers,
    program,
    refused,
    storage,
    tensor,
    text,
    tuple_of,
    zip_file,
)

TOUCH = text(f"touch {SENTINEL}")
T = tensor(storage(), (4,))
ORDERED = call("collections", "OrderedDict")


def rebuilt(held=storage(), offset=number(0), shape=numbers([4]), strides=numbers([1]),  # noqa: B008 (all are bytes)
            metadata=b"") -> bytes:
    """A state_dict of one tensor, any field of which can be replaced."""
    return dictionary({"x": call("torch._utils", "_rebuild_tensor_v2", held, offset, shape, strides, b"\x89", ORDERED,
                                 metadata)})


def persistent(*fields: bytes) -> bytes:
    return rebuilt(tuple_of(*fields) + b"Q")


def doubled(times: int) -> bytes:
    """A tuple of tuples of ...: 2**times leaves, with 5 bytes per level."""
    return b"N\x85" + b"q\x00h\x00\x86" * times


CODE = {
    "posix_system_reduce": (call("posix", "system", TOUCH), "'posix.system'.*nothing was run"),
    "os_system_reduce": (call("os", "system", TOUCH), "'os.system'"),
    "nt_system": (call("nt", "system", TOUCH), "'nt.system'"),
    "builtins_eval": (call("builtins", "eval", text("1")), "'builtins.eval'"),
    "builtins_exec_python2_name": (call("__builtin__", "execfile", text("x")), "'builtins.execfile'"),
    "builtins_getattr": (call("builtins", "getattr", text("x"), text("y")), "'builtins.getattr'"),
    "builtins_import": (call("builtins", "__import__", text("os")), "'builtins.__import__'"),
    "subprocess_popen": (call("subprocess", "Popen", TOUCH), "'subprocess.Popen'"),
    "torch_load": (call("torch", "load", text("x")), "'torch.load'"),
    "torch_hub": (call("torch.hub", "load", text("x")), "'torch.hub.load'"),
    "numpy_loads": (call("numpy", "load", text("x")), "'numpy.load'"),
    "numpy_testing_runstring": (call("numpy.testing._private.utils", "runstring", text("x")), "runstring"),
    "functools_partial": (call("functools", "partial", text("x")), "'functools.partial'"),
    "operator_attrgetter": (call("operator", "attrgetter", text("x")), "'operator.attrgetter'"),
    "pickle_loads": (call("pickle", "loads", b"C\x00"), "'pickle.loads'"),
    "torch_jit_unpickler": (call("torch.jit._pickle", "build_intlist", b"]"), "a TorchScript program"),
    "own_package": (call("npefficient.weights.weight_file", "write_weights"),
                    "'npefficient.weights.weight_file.write_weights'"),
    "dotted_stack_global": (text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93",
                            "'torch._utils._rebuild_tensor_v2.__globals__'"),
    "dotted_attribute_of_known": (text("collections") + text("OrderedDict.__init__") + b"\x93",
                                  "'collections.OrderedDict.__init__'"),
    "known_name_split_elsewhere": (text("torch") + text("_utils._rebuild_tensor_v2") + b"\x93",
                                   "'torch._utils._rebuild_tensor_v2'"),
    "stack_global_of_numbers": (number(5) + number(77) + b"\x93", "names a global by 5 and 77"),
    "inst_posix_system": (b"(" + TOUCH + b"iposix\nsystem\n", r"'posix.system' with an opcode \(INST\)"),
    "inst_known_class": (b"(icollections\nOrderedDict\n", "'collections.OrderedDict' with an opcode"),
    "obj_known_class": (b"(" + name("collections", "OrderedDict") + b"o",
                        r"'collections.OrderedDict' with an opcode \(OBJ\)"),
    "newobj_unknown": (name("posix", "system") + tuple_of(TOUCH) + b"\x81", "'posix.system'"),
    "newobj_keywords": (name("argparse", "Namespace") + b")" + dictionary({"a": b"N"}) + b"\x92",
                        "'argparse.Namespace' with keywords"),
    "reduce_number": (number(77) + b")R", "calls 77"),
    "reduce_text": (text("posix.system") + b")R", "calls 'posix.system': only"),
    "reduce_inert_object": (ORDERED + b")R", "calls a record"),
    "reduce_dtype": (name("torch", "float32") + b")R", "calls 'torch.float32', which can't be called"),
    "reduce_arguments_not_tuple": (name("collections", "OrderedDict") + b"]R", "'collections.OrderedDict' with a list"),
    "reduce_too_many_arguments": (call("collections", "OrderedDict", b"N", b"N", b"N"),
                                  "'collections.OrderedDict' with 3 arguments"),
    "reduce_too_few_arguments": (call("torch._utils", "_rebuild_tensor_v2", b"N"),
                                 "_rebuild_tensor_v2' with 1 arguments"),
    "build_on_list": (b"]}b", "state of a list"),
    "build_on_tensor": (T + b"}b", "state of a tensor"),
    "build_on_global": (name("collections", "OrderedDict") + b"}b", "state of a global"),
    "extension_registry": (b"\x82\x01", r"opcode b'\\x82'"),
    "persid_of_protocol_0": (b"Pposix\n", "opcode b'P'"),
    "string_of_protocol_0": (b"S'x'\n", "opcode b'S'"),
    "duplicate_top": (b"N2", "opcode b'2'"),
    "out_of_band_buffer": (b"\x97", r"opcode b'\\x97'"),
    "unknown_opcode": (b"\xff", r"opcode b'\\xff'"),
    "protocol_9": (b"\x80\x09", "protocol 9"),
    "type_of_tensor_by_eval": (call("torch._tensor", "_rebuild_from_type_v2", name("argparse", "Namespace"), b"N",
                                    b")", b"}"),
                               "rebuilt by 'argparse.Namespace'"),
    "pickled_module": (name("torch.nn.modules.container", "Sequential"), "Sequential': a whole model object"),
    "pickled_model_of_main": (name("__main__", "Net"), "'__main__.Net': a whole model object"),
    "optimizer_object": (name("torch.optim.sgd", "SGD"), "'torch.optim.sgd.SGD'"),
    "module_name_of_megabytes": (b"c" + b"a" * 100_000 + b"\nb\n", "is longer than 256 bytes"),
    "global_without_end": (b"cposix", "is longer than 256 bytes"),
}

STRUCTURE = {
    "long_binput_of_8_bytes": (b"Nr\xff\xff\xff\x7f", "memo index 2147483647"),
    "binput_leaves_a_gap": (b"Nq\x05", "memo index 5"),
    "long_binget_unknown": (b"j\x00\x00\x00\x80", "memo index 2147483648"),
    "binget_unknown": (b"h\x07", "memo index 7"),
    "doubling_tuple_as_key": (b"}" + doubled(26) + b"Ns", "a tuple as a dictionary key"),
    "doubling_tuple_as_value": (doubled(60), "it contains a tuple"),
    "doubling_tuple_called": (doubled(60) + b")R", "calls a tuple"),
    "doubling_tuple_as_shape": (rebuilt(shape=doubled(60)), "a tuple in the shape of a tensor"),
    "list_as_key": (b"}]Ns", "a list as a dictionary key"),
    "wide_integer_as_key": (b"}" + number(1 << 80) + b"Ns", f"{1 << 80} as a dictionary key"),
    "key_twice": (b"}(" + text("bn1.bias") + b"N" + text("bn1.bias") + b"Nu", "'bn1.bias' appears twice"),
    "key_twice_in_python2_pairs": (call("collections", "OrderedDict", b"](](K\x01Ne](K\x01Nee"), "key 1 appears twice"),
    "number_keys_by_the_thousand": (b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(10_001)) + b"u",
                                    "10000 that are not text"),
    "marks_nested": (b"(" * 101, "nested more than 100 levels deep"),
    "integer_of_2_gigabytes": (b"\x8b\xff\xff\xff\x7f", "an integer of 2147483647 bytes"),
    "integer_of_negative_length": (b"\x8b\xff\xff\xff\xff", "an integer of -1 bytes"),
    "integer_of_255_bytes": (b"\x8a\xff" + b"\x7f" * 255, "an integer of 255 bytes"),
    "string_beyond_the_end": (b"X\xff\xff\x00\x00abc", "needs 65535 bytes"),
    "string_of_4_gigabytes": (b"X\xff\xff\xff\xff", "a string of 4294967295 bytes"),
    "string_of_2_to_63_bytes": (b"\x8d" + struct.pack("<Q", 1 << 63), "a string of 9223372036854775808 bytes"),
    "old_string_of_negative_length": (b"T\xff\xff\xff\xff", "a string of -1 bytes"),
    "string_of_megabytes": (text("a" * (1 << 20 | 1)), "a string of 1048577 bytes"),
    "string_not_utf8": (b"X\x02\x00\x00\x00\xff\xfe", r"b'\\xff\\xfe'.*not UTF-8"),
    "bytes_of_2_to_63": (b"\x8e" + struct.pack("<Q", 1 << 63), "needs 9223372036854775808 bytes"),
    "bytearray_of_2_to_63": (b"\x96" + struct.pack("<Q", 1 << 63), "needs 9223372036854775808 bytes"),
    "frame_beyond_the_end": (b"\x95" + struct.pack("<Q", 1 << 62), "frame of 4611686018427387904 bytes"),
    "stack_underflow": (b"\x86", "from an empty stack at byte 48"),
    "pop_below_the_mark": (b"N(a", "from an empty stack"),
    "mark_underflow": (b"t", "closes a group that it never opened"),
    "stop_on_empty_stack": (b"", "from an empty stack"),
    "values_left_over": (b"NN", "ends with 1 values left over"),
    "mark_left_open": (b"(N", "ends with 0 values left over"),
    "set_items_odd": (b"}(" + text("a") + b"u", "sets 1 keys and values"),
    "set_item_of_list": (b"]" + text("a") + b"Ns", "an item of a list"),
    "append_to_dictionary": (b"}Na", "appends to a dict"),
    "append_to_tuple": (b")Na", "appends to a tuple"),
    "ordered_dict_of_number": (call("collections", "OrderedDict", number(77)), "an OrderedDict of 77"),
    "ordered_dict_of_triples": (call("collections", "OrderedDict", b"]](NNNea"), "the entry a list: it must be a pair"),
    "size_of_number": (call("torch", "Size", number(77)), "torch.Size is made from 77"),
}

TENSORS = {
    "storage_is_number": (rebuilt(number(77)), "the storage of a tensor is 77"),
    "offset_negative": (rebuilt(offset=number(-3)), "-3 in the offset of a tensor"),
    "offset_beyond": (rebuilt(offset=number(1)), "ends at element 5 of storage '0', which has 4"),
    "offset_true": (rebuilt(offset=b"\x88"), "True in the offset of a tensor"),
    "shape_negative": (rebuilt(shape=numbers([-4])), "-4 in the shape of a tensor"),
    "shape_of_2_to_63": (rebuilt(shape=numbers([1 << 63])), "9223372036854775808 in the shape of a tensor"),
    "shape_overflows_64_bits": (rebuilt(shape=numbers([1 << 33] * 4), strides=numbers([0] * 4)),
                                "product of its nonzero extents"),
    "empty_beside_2_to_61": (rebuilt(shape=numbers([0, 1 << 61]), strides=numbers([1, 1])),
                             "2305843009213693952 in the shape of a tensor"),
    "empty_beside_a_product_of_2_to_60": (rebuilt(shape=numbers([1 << 30, 0, 1 << 30]), strides=numbers([1, 1, 1])),
                                          r"is \(1073741824, 0, 1073741824\): the product of its nonzero extents"),
    "stride_of_2_to_61_never_taken": (rebuilt(shape=numbers([1]), strides=numbers([1 << 61])),
                                      "2305843009213693952 in the strides of a tensor"),
    "shape_of_text": (rebuilt(shape=text("4")), "shape of a tensor is '4'"),
    "shape_of_floats": (rebuilt(shape=tuple_of(b"G@\x10" + bytes(6))), "4.0 in the shape of a tensor"),
    "shape_beyond": (rebuilt(shape=numbers([5])), "ends at element 5"),
    "nine_dimensions": (rebuilt(shape=numbers([1] * 9), strides=numbers([1] * 9)), "has 9 entries"),
    "strides_beyond": (rebuilt(shape=numbers([2, 2]), strides=numbers([3, 1])), "ends at element 5"),
    "stride_negative": (rebuilt(strides=numbers([-1])), "-1 in the strides of a tensor"),
    "stride_of_2_to_59": (rebuilt(shape=numbers([3]), strides=numbers([1 << 59])),
                          "ends at element 1152921504606846977"),
    "strides_too_few": (rebuilt(shape=numbers([2, 2])), r"shape \(2, 2\) has strides \(1,\)"),
    "stride_0_to_terabytes": (rebuilt(shape=numbers([1 << 20, 1 << 20]), strides=numbers([0, 0])),
                              "the tensor 'x' of shape .* 16 MiB more than the file's size: .clone()"),
    "one_storage_a_thousand_times": (dictionary({f"x{i}": tensor(storage("0", 1 << 16),
                                                                 (1 << 16,)) for i in range(200)}),
                                     "the tensor 'x65' .* 16 MiB more"),
    "negative_flag": (rebuilt(metadata=dictionary({"neg": b"\x88"})), "lazy negative or conjugate"),
    "parameter_of_number": (call("torch._utils", "_rebuild_parameter", number(77), b"\x88", b"N"), "made from 77"),
    "v3_dtype_is_text": (call("torch._utils", "_rebuild_tensor_v3", storage(), number(0), numbers([1]), numbers([1]),
                              b"\x89", b"N",
                              text("float32")), "has the dtype 'float32'"),
    "v3_wider_than_the_storage": (dictionary({"x": call("torch._utils", "_rebuild_tensor_v3",
                                                        storage("0", 16, "UntypedStorage"),
                                                        number(0), numbers([3]), numbers([1]), b"\x89", b"N",
                                                        name("torch", "float64"))}),
                                  "ends at element 3 of storage '0', which has 2"),
    "storage_of_complex": (rebuilt(storage(numel=2, kind="ComplexFloatStorage"), shape=numbers([2])),
                           "the tensor 'x' is complex64: only float64, .* are read; convert it to float32"),
    "storage_of_quantised": (rebuilt(storage(numel=16, kind="QInt8Storage")), "the tensor 'x' is qint8: only"),
    "storage_of_the_future": (rebuilt(storage(kind="Float2Storage")), "'torch.Float2Storage': storages of this kind"),
    "storage_class_as_dtype": (call("torch._utils", "_rebuild_tensor_v3", storage(), number(0), numbers([1]),
                                    numbers([1]), b"\x89", b"N", name("torch", "FloatStorage")),
                               "has the dtype 'torch.FloatStorage'"),
    "storage_of_two_kinds": (dictionary({"x": tensor(storage(), (4,)), "y": tensor(storage(kind="IntStorage"), (4,))}),
                             "'0' is described twice: as 4 float32 elements and as 4 int32"),
    "storage_key_of_257_characters": (rebuilt(storage("k" * 257)), "string of at most 256 characters"),
    "storage_class_is_function": (persistent(text("storage"), name("collections", "OrderedDict"), text("0"),
                                             text("cpu"), number(4)),
                                  "a storage has the class 'collections.OrderedDict'"),
    "storage_class_is_dtype": (persistent(text("storage"), name("torch", "float32"), text("0"), text("cpu"), number(4)),
                               "a storage has the class 'torch.float32'"),
    "storage_size_too_large": (rebuilt(storage(numel=5)), "should have 5 float32 elements, 20 bytes, but .* has 16"),
    "storage_size_too_small": (rebuilt(storage(numel=3)), "should have 3 float32 elements, 12 bytes"),
    "storage_size_of_2_to_62": (rebuilt(storage(numel=1 << 62)), "has 4611686018427387904 elements: .* below 2..60"),
    "storage_size_negative": (rebuilt(storage(numel=-4)), "storage '0' has -4 elements"),
    "storage_size_true": (persistent(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), b"\x88"),
                          "has True elements"),
    "storage_missing": (rebuilt(storage("7")), "storage '7' is missing"),
    "storage_key_climbs": (rebuilt(storage("../version")), "storage '../version' is missing"),
    "storage_key_is_number": (persistent(text("storage"), name("torch", "FloatStorage"), number(7), text("cpu"),
                                         number(4)), "storage 7 has 4"),
    "persistent_module": (persistent(text("module"), b"N", b"N", b"N", b"N"), "persistent id 'module'"),
    "persistent_too_long": (persistent(text("storage"), b"N", b"N", b"N", b"N", b"N"), "'storage' with 5 fields"),
    "persistent_number": (number(77) + b"Q", "persistent id 77"),
}

OBJECTS = {
    "a_list": (b"]", "it contains a list"),
    "nothing": (b"N", "it contains None"),
    "a_number": (number(77), "it contains 77"),
    "a_tensor": (T, "it contains a tensor"),
    "an_object": (name("argparse", "Namespace") + b")\x81", "it contains an inert"),
    "empty": (b"}", "contains no tensors"),
    "empty_state_dict": (dictionary({"state_dict": b"}"}), "contains no tensors"),
    "state_dict_is_none": (dictionary({"state_dict": b"N"}), "other things than named tensors: 'state_dict'"),
    "model_is_list": (dictionary({"model": b"]"}), "other things than named tensors: 'model'"),
    "entry_is_list": (dictionary({"x": T, "step_77": b"]"}), "other things than named tensors: 'step_77'"),
    "key_is_number": (b"}" + number(77) + T + b"s", "other things than named tensors: 77"),
    "unknown_wrapper": (dictionary({"network": dictionary({"x": T})}), "other things than named tensors: 'network'"),
}
CASES = {**CODE, **STRUCTURE, **TENSORS, **OBJECTS}


def test_the_payload_is_real():
    """Python's own pickle runs it, so a reader that runs code would be noticed."""
    pickle.loads(program(call("posix", "system", TOUCH)))
    assert SENTINEL.exists()
    SENTINEL.unlink()


@pytest.mark.parametrize("case", CASES)
def test_zip_refuses(case, tmp_path):
    piece, message = CASES[case]
    storages = {"0": bytes(4 << 16)} if case == "one_storage_a_thousand_times" else None
    refused(tmp_path, zip_file(program(piece), storages), message)


@pytest.mark.parametrize("case", {**CODE, **STRUCTURE})
def test_legacy_refuses(case, tmp_path):
    """The same code reads a legacy file; some errors come elsewhere there, since the object is not the file's end."""
    piece, message = CASES[case]
    message = {"stack_underflow": "from an empty stack", "build_on_tensor": "must be 'storage' with 6 fields",
               "doubling_tuple_as_value": "its list of storages",
               "doubling_tuple_as_shape": "named tensors|lies in|fields"}.get(case, message)
    refused(tmp_path, legacy_file(program(piece)), message)


@pytest.mark.parametrize("position", ["magic", "keys"])
def test_legacy_refuses_code_around_the_object(position, tmp_path):
    evil = program(call("posix", "system", TOUCH))
    data = legacy_file(program(b"}"), (), keys=call("posix", "system", TOUCH)) if position == "keys" else evil
    refused(tmp_path, data, "'posix.system'")


BUDGETS = {
    "steps": (b"NN\x86" * 200_000, "more than 500000 steps|16 MiB more"),
    "steps_that_keep_nothing": (b"]" + b"Na" * 300_000, "more than 500000 steps"),
    "empty_dictionaries": (b"}" * 300_000, "16 MiB more than the file's size"),
    "empty_sets": (b"\x8f" * 200_000, "16 MiB more than the file's size"),
    "storages": (tuple_of(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(4)) + b"q\x00Q"
                 + b"h\x00Q" * 300_000, "more than 500000 steps|16 MiB more"),
    "nested_tuples": (b"N" + b"\x85" * 400_000, "it contains a tuple|16 MiB more"),
    "nested_lists": (b"]" * 200_000 + b"a" * 199_999, "it contains a list|16 MiB more"),
    "colliding_numbers": (
        b"}(" + b"".join(b"G" + struct.pack(">d", 2.0 ** (i % 900) * (1 + i)) + b"N" for i in range(100_000)) + b"u",
        "appears twice|not text|16 MiB more"),
    "text_keys": (b"}(" + b"".join(text(str(i)) + b"N" for i in range(100_001)) + b"u", "more than 100000 keys"),
    "wide_characters": (b"".join(text("a" * 10_000 + "\U0001f600") for _ in range(600)),
                        "16 MiB more|left over"),
}


@pytest.mark.parametrize("case", BUDGETS)
def test_budgets_bound_time_and_memory(case, tmp_path):
    piece, message = BUDGETS[case]
    spare = {"spare": bytes(1 << 23)} if case == "text_keys" else {}  # so that it hits the limit for keys
    refused(tmp_path, zip_file(program(piece), {"0": bytes(16), **spare}), message, seconds=6)
