"""Edits that make a weight file lie: functions of the file, open in h5py.

STRUCTURE: name -> (edit, what the error says) of those that are refused whether the file is signed or not.
"""
import h5py
import numpy as np
from weight_files import set_attribute, sign


def attribute(name, value, **how):
    return lambda file: set_attribute(file, name, value, **how)


def labels(text: bytes):
    def edit(file):
        del file["labels"]
        file["labels"] = np.frombuffer(text, np.uint8)
    return edit


def photos(marks: bytes, name: str = "photos"):
    return lambda file: file.__setitem__(name, np.frombuffer(marks, np.uint8))


def without(name):
    return lambda file: file.__delitem__(name)


def classes_without_labels(count):
    def edit(file):
        set_attribute(file, "num_classes", count)
        del file["labels"]
    return edit


TEN = "\n".join("abcdefghij").encode()


def renamed(old, new):
    return lambda file: file.move(old, new)


def instead(name, make):
    """Replace a dataset by what `make(file, data)` creates."""
    def edit(file):
        data = file[name][()]
        del file[name]
        make(file, data)
    return edit


def linked(name, link):
    return instead(name, lambda file, data: file.__setitem__(name, link))


def alias(file, data):
    file["blocks.0.0.bn1.bias"] = file["bn1.bias"]


def stored(name="classifier.bias", **how):
    return instead(name, lambda file, data: file.create_dataset(name, data=data, **how))


def unallocated(name, shape, dtype):
    return instead(name, lambda file, data: file.create_dataset(name, shape, dtype))


def external(file, data):
    file.create_dataset("classifier.bias", data.shape, data.dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def compact(file, data):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    file.create_dataset("classifier.bias", data=data, dcpl=plist)


def virtual(file, data):
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("/etc/passwd", "bn1.bias", data.shape)
    file.create_virtual_dataset("classifier.bias", layout)


def virtual_unlimited(file, data):
    """A dataset whose extent HDF5 finds out by opening its source files."""
    layout = h5py.VirtualLayout((10,), data.dtype, maxshape=(None,))
    source = h5py.VirtualSource("other.h5", "x", (10,), maxshape=(None,))
    layout[0 : h5py.h5s.UNLIMITED] = source[0 : h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("classifier.bias", layout)


def four_tebibytes(file):
    """Four tebibytes of classifier, declared but never stored: a file of 1,400 bytes can do that."""
    classes = 2**42 // 1280 // 4
    set_attribute(file, "num_classes", classes)
    del file["labels"]
    for name, shape in (("classifier.weight", (classes, 1280)), ("classifier.bias", (classes,))):
        unallocated(name, shape, "<f4")(file)
    sign(file)


def vlen_checksums(file):
    del file.attrs["checksums"]
    h5py.h5a.create(file.id, b"checksums", h5py.h5t.vlen_create(h5py.h5t.STD_U8LE), h5py.h5s.create_simple((247, 32)))


def many(count, make):
    def edit(file):
        for i in range(count):
            make(file, f"extra{i:05}")
    return edit


def long_label(file):
    labels(TEN + b"j" * (1 << 22))(file)


STRUCTURE = {
    "no_format": (lambda f: f.attrs.__delitem__("format"), "no attribute 'format'"),
    "format_other": (attribute("format", np.bytes_(b"keras weights")), "format 'keras weights'"),
    "format_vlen": (attribute("format", "npefficient weights"), "'format' is object"),
    "version_0": (attribute("format_version", 0), "format_version 0: this release reads 1"),
    "version_2": (attribute("format_version", 2), "format_version 2: this release reads 1"),
    "version_2_with_more": (lambda f: (attribute("format_version", 2)(f), attribute("new", 1)(f)), "format_version 2"),
    "version_text": (attribute("format_version", np.bytes_(b"1")), r"'format_version' is \|S1"),
    "attribute_missing": (lambda f: f.attrs.__delitem__("padding"), "missing: 'padding'; unexpected: none"),
    "attribute_extra": (attribute("activation", np.bytes_(b"swish")), "attributes missing: none; unexpected: 1$"),
    "attribute_extra_name_long": (attribute("x" * 60_000, 1), "unexpected: 1$"),
    "attributes_5000": (many(5000, lambda f, name: f.attrs.__setitem__(name, 1)),
                        "attributes missing: none; unexpected: 5000$"),
    "attribute_vlen": (attribute("variant", "tf_efficientnet_lite0"), "'variant' is object"),
    "attribute_vlen_bytes": (vlen_checksums, "'checksums' is object"),
    "attribute_huge": (attribute("source_name", np.bytes_(b"x" * 70_000)), "'source_name' is .* of 70000 bytes"),
    "attribute_huge_array": (attribute("num_batches_tracked", np.zeros(9000, np.int64)), "of 72000 bytes"),
    "attribute_int32": (attribute("num_classes", np.int32(10)), "'num_classes' is int32"),
    "attribute_uint64": (attribute("num_classes", np.uint64(10)), "'num_classes' is uint64"),
    "attribute_big_endian": (attribute("num_classes", 10, dtype=">i8"), "'num_classes' is >i8"),
    "attribute_bool": (attribute("num_classes", True), "'num_classes' is bool"),
    "attribute_float32": (attribute("crop_pct", np.float32(0.875)), "'crop_pct' is float32"),
    "attribute_array": (attribute("num_classes", [10]), r"'num_classes' is int64 \(1,\)"),
    "attribute_matrix": (attribute("mean", [[0.5, 0.5, 0.5]]), r"'mean' is float64 \(1, 3\)"),
    "attribute_short": (attribute("std", [0.5, 0.5]), r"'std' is float64 \(2,\)"),
    "attribute_null": (attribute("num_classes", h5py.Empty("i8")), "'num_classes' is int64 None"),
    "attribute_compound": (attribute("num_classes", np.zeros((), "i8,i8")), "'num_classes' is"),
    "attribute_reference": (lambda f: set_attribute(f, "num_classes", f["bn1.bias"].ref, dtype=h5py.ref_dtype),
                            "'num_classes' is object"),
    "attribute_not_utf8": (attribute("source_name", np.bytes_(b"\xff\xfe")), "0xff"),
    "dataset_missing": (without("blocks.1.0.bn1.bias"), "datasets missing: 'blocks.1.0.bn1.bias'; unexpected: none"),
    "dataset_renamed": (renamed("bn1.bias", "bn1.offset"), "missing: 'bn1.bias'; unexpected: 1$"),
    "dataset_extra": (lambda f: f.create_dataset("bn9.bias", data=1.0), "datasets missing: none; unexpected: 1$"),
    "dataset_extra_counts": (lambda f: f.create_dataset("bn1.num_batches_tracked", data=1),
                             "unexpected: 1$"),
    "dataset_extra_odd_name": (lambda f: f.create_dataset(b"\xff\x1b[2J", data=1), "unexpected: 1$"),
    "datasets_30_extra": (many(30, lambda f, name: f.create_dataset(name, data=1.0)), "unexpected: 30$"),
    "links_5000": (many(5000, lambda f, name: f.__setitem__(name, h5py.SoftLink("/"))),
                   "datasets missing: none; unexpected: 5000$"),
    "group": (instead("bn1.bias", lambda f, data: f.create_group("bn1.bias")), "'bn1.bias' is a group"),
    "group_of_labels": (instead("labels", lambda f, data: f.create_group("labels")), "'labels' is a group"),
    "committed_type": (linked("bn1.bias", np.dtype("f4")),
                       "'bn1.bias' is a type"),
    "nested": (lambda f: f.create_dataset("blocks/0/weight", data=1.0), "unexpected: 1$"),
    "soft_link": (linked("bn1.bias", h5py.SoftLink("/bn2.bias")),
                  "'bn1.bias' is a soft link"),
    "soft_link_to_itself": (linked("labels", h5py.SoftLink("/labels")),
                            "'labels' is a soft link"),
    "external_link": (linked("bn1.bias", h5py.ExternalLink("/etc/passwd", "/x")),
                      "'bn1.bias' is an external link"),
    "external_link_extra": (lambda f: f.__setitem__("x", h5py.ExternalLink("other.h5", "/x")),
                            "datasets missing: none; unexpected: 1$"),
    "hard_link_twice": (instead("blocks.0.0.bn1.bias", alias),
                        "datasets must not overlap"),
    "external_storage": (instead("classifier.bias", external), "'classifier.bias' is external"),
    "virtual": (instead("classifier.bias", virtual), "'classifier.bias' is virtual"),
    "virtual_unlimited": (instead("classifier.bias", virtual_unlimited), "'classifier.bias' is virtual"),
    "chunked": (stored(chunks=(5,)), "'classifier.bias' is chunked"),
    "resizable": (stored(maxshape=(None,)), "'classifier.bias' is chunked"),
    "gzip": (stored(compression="gzip"), "'classifier.bias' is chunked"),
    "shuffle": (stored(shuffle=True), "'classifier.bias' is chunked"),
    "fletcher32": (stored(fletcher32=True), "'classifier.bias' is chunked"),
    "deflate_bomb": (instead("classifier.weight", lambda f, data: f.create_dataset(
        "classifier.weight", (10**6, 1280), "f2", chunks=(10**4, 1280), compression="gzip")),
        "'classifier.weight' is chunked"),
    "labels_chunked": (stored("labels", chunks=True), "'labels' is chunked"),
    "compact": (instead("classifier.bias", compact), "'classifier.bias' is compact"),
    "never_allocated": (unallocated("classifier.bias", (10,), "f4"), "'classifier.bias' is stored nowhere"),
    "never_allocated_4_TiB": (four_tebibytes, "num_classes 858993459: .* at most 262,144"),
    "never_allocated_labels": (unallocated("labels", (10**12,), "u1"), "'labels' is stored nowhere"),
    "labels_empty": (instead("labels", lambda f, data: f.create_dataset("labels", data=np.zeros(0, np.uint8))),
                     "'labels' is stored nowhere"),
    "labels_null": (instead("labels", lambda f, data: f.create_dataset("labels", data=h5py.Empty("u1"))),
                    "'labels' is stored nowhere"),
    "labels_5_MB": (long_label, r"'labels' is uint8 \(4194323,\): .* at most 4194304"),
    "labels_strings": (instead("labels", lambda f, data: f.create_dataset("labels", data=np.array([b"a"] * 10))),
                       r"'labels' is \|S1"),
    "labels_vlen": (instead("labels", lambda f, data: f.create_dataset("labels", data=["a"] * 10)),
                    "'labels' is object"),
    "labels_not_utf8": (labels(TEN[:-1] + b"\xff"), "0xff"),
    "shape_rows": (instead("classifier.bias", lambda f, data: f.create_dataset("classifier.bias", data=data[:9])),
                   r"'classifier.bias' is float16 \(9,\)"),
    "shape_transposed": (instead("classifier.weight", lambda f, data: f.create_dataset(
        "classifier.weight", data=data.T)), r"'classifier.weight' is float16 \(1280, 10\)"),
    "shape_rank": (instead("classifier.bias", lambda f, data: f.create_dataset(
        "classifier.bias", data=data[None])), r"'classifier.bias' is float16 \(1, 10\)"),
    "float64": (stored(dtype="f8"), "'classifier.bias' is float64"),
    "int16": (stored(dtype="i2"), "'classifier.bias' is int16"),
    "big_endian": (stored(dtype=">f4"), "'classifier.bias' is >f4"),
    "complex": (instead("classifier.bias", lambda f, data: f.create_dataset("classifier.bias", data=data.astype("c8"))),
                "'classifier.bias' is complex64"),
    "attribute_on_dataset": (lambda f: f["bn1.bias"].attrs.__setitem__("scale", 2.0),
                             "'bn1.bias' has attributes: a weight file has them only at its root"),
}
