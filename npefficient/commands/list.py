"""List all models, or those whose names match a pattern.

GMACs: billions of multiply-accumulates per photo. top-1, top-5: timm's published accuracy on ImageNet. weights: where
the official ones come from: npefficient's cache, an installed package, or a download on first use.
"""


def add_arguments(parser):
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*",
                        help="names to list, with shell-style wildcards, such as '*lite[0-2]' (default: all)")


def run(args) -> int:
    from ..errors import ArgumentError
    from ..hub import origin
    from ..network.architecture import build
    from ..network.variants import VARIANTS, list_models

    names = list_models(args.pattern)
    if not names:
        raise ArgumentError(f"no model matches {args.pattern!r}: there are {', '.join(VARIANTS)}")
    print(f"{'name':22}{'input':>9}{'parameters':>12}{'GMACs':>7}{'top-1':>8}{'top-5':>8}  weights")
    for name in names:
        network = build(name)
        variant, (rows, columns) = network.variant, network.variant.preprocessing.input_size
        kind = origin(name).kind
        weights = f"{kind}, {variant.file_size / 1e6:.1f} MB" if kind == "download" else kind
        print(f"{name:22}{f'{rows}x{columns}':>9}{network.param_count():>12,}{network.macs(rows, columns) / 1e9:>7.2f}"
              f"{variant.top1:>7.2f}%{variant.top5:>7.2f}%  {weights}")
    return 0
