"""Convert a checkpoint (.pth, .safetensors) to a weight file (.h5).

Needs no torch, and runs no code from the checkpoint. Tensors may have the names of timm or EfficientNet-PyTorch. The
variant, the number of classes and the input channels follow from the shapes; every name, shape and value is checked
before anything is written. Preprocessing, class names and pool are taken from timm's config.json beside the checkpoint,
if there is one; options override it.
"""
from ..common.text import listed, numbers, plain, quoted
from .terminal import say
from .values import model_name, number, weight_output, whole

mean = number(float, "a mean of values from 0 to 1, such as 0.485", lambda value: 0 <= value <= 1)


def add_arguments(parser):
    parser.add_argument("source", metavar="CHECKPOINT", help="a .pth file of torch (either format), a .safetensors "
                                                             "file, or a timm hub folder (local-dir:FOLDER)")
    parser.add_argument("target", metavar="OUT.h5", nargs="?", type=weight_output,
                        help="default: the checkpoint's name with .h5")
    parser.add_argument("--variant", metavar="NAME", type=model_name,
                        help="lite0 to lite4 (default: deduced from the shapes)")
    parser.add_argument("--global-pool", choices=("avg", "max", "avgmax", "catavgmax"),
                        help="the pool before the classifier, which does not always follow from the shapes (default: "
                             "avg)")
    parser.add_argument("--labels", metavar="FILE", help="class names, one per line, in the order of the classes; each "
                                                       "may follow an ImageNet synset id and a tab")
    parser.add_argument("--key", metavar="NAME", help="entry of the checkpoint's dictionary that holds the weights "
                                                      "(default: found by its name; '' is the whole file)")
    parser.add_argument("--prefix", metavar="TEXT", help="prefix of all the network's parameter names, such as model. "
                                                         "(default: deduced from the names)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing OUT.h5")
    how = parser.add_argument_group("preprocessing", "how photos are prepared (default: as in config.json, else as the "
                                                        "variant was trained)")
    how.add_argument("--input-size", metavar="N", type=whole, help="rows and columns of the input in pixels")
    how.add_argument("--crop-pct", metavar="X", type=float, help="share of the resized photo that is kept")
    how.add_argument("--interpolation", choices=("bilinear", "bicubic"), help="filter for resizing the photo")
    how.add_argument("--crop-mode", choices=("center", "squash", "border"), help="how a photo that is not square is "
                                                                                 "cropped")
    how.add_argument("--mean", metavar="X", type=mean, nargs=3, help="mean of each channel, 0..1, which is subtracted")
    how.add_argument("--std", metavar="X", type=float, nargs=3, help="standard deviation of each channel, which it is "
                                                                     "divided by")


def run(args) -> int:
    from weights_convert import convert

    done = convert(args.source, args.target, variant=args.variant, preprocessing=_overrides(args), labels=args.labels,
                   global_pool=args.global_pool, key=args.key, prefix=args.prefix, force=args.force)
    weights, network = done.weights, done.weights.architecture
    tensors, values = len(weights.parameters), sum(array.size for array in weights.parameters.values())
    how = weights.preprocessing
    wrapper = f", entry {quoted(done.wrapper)}" if done.wrapper else ""
    prefix = f", with the prefix {quoted(done.prefix)}" if done.prefix else ""
    official = ", official weights" if network.variant.is_official(weights.source.sha256) else ""
    config = f", from {plain(done.config)}" if done.config else ""
    given = " and the options" if done.config and _overrides(args) else ""
    labels = "no class names in the file"
    if weights.labels:
        labels = f"{listed(weights.labels, 3)}{config if args.labels is None else ''}"
    print(f"read     {plain(done.source)} ({weights.source.kind}{wrapper}), {done.source_size:,} bytes")
    print(f"         sha256 {weights.source.sha256}")
    print(f"found    {network.name}: {network.interface}, "
          f"{tensors} tensors, {values:,} values, {network.param_count():,} parameters")
    print(f"names    of {done.naming}{prefix}{official}")
    print(f"input    {how.input_size[0]} x {how.input_size[1]}, crop_pct {how.crop_pct:g}, {how.interpolation}, "
          f"mean {numbers(how.mean)}, std {numbers(how.std)}{config}{given}")
    print(f"labels   {labels}")
    print(f"wrote    {plain(done.target)}, {done.target_size:,} bytes, read back and compared")
    if network.num_classes:
        print(f"next     npefficient classify PHOTO --weights {plain(done.target)}")
    for warning in done.warnings:
        say(f"warning: {warning}")
    return 0


def _overrides(args) -> dict:
    given = {name: getattr(args, name) for name in ("crop_pct", "interpolation", "crop_mode", "mean", "std")}
    given["input_size"] = (args.input_size, args.input_size) if args.input_size is not None else None
    return {name: tuple(value) if isinstance(value, list) else value for name,
            value in given.items() if value is not None}
