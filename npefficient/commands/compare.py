"""Compare two networks: their weights and, on a photo, the layer where their activations diverge.

A tensor or a layer differs if max |a - b| / max(|a|, |b|) is above --tolerance. Only values count: precision, source
and the batch counts of batch norms are shown but not compared. Settings that differ are marked with "|".

With --precision, B runs in that precision and A in float32, on the photos given or on those that come with npefficient:
`npefficient compare lite0 lite0 --precision int8` shows what 8 bits cost. Errors are root mean squares over all photos,
in per cent of the standard deviation of A's output. "error" is that of B's output, to which all layers before it have
added; "by itself" is that of B's layer on A's input. A layer then differs if its error is above --tolerance. For
the latter, the layers are run one by one in plain NumPy: under a second for each photo in lite0, several in lite4.

Exit codes as for diff: 0 the two are the same, 1 they differ, 2 the comparison failed (the reason is on stderr) or
usage error, 70 a bug in npefficient.
"""
import math
from pathlib import Path

from ..common.text import counted, plain, short
from ..model.model import PRECISIONS
from .options import WEIGHT_FILE, add_json, add_reading, check_outputs, compile_kernels, reading, weight_file
from .values import number

TROUBLE = 2  # exit code of a failure, since 1 means that the networks differ
SHOWN = 10  # tensors

tolerance = number(float, "a number of at least 0, a share of the largest value", lambda value: 0 <= value < math.inf)


def add_arguments(parser):
    parser.add_argument("a", metavar="A", help=WEIGHT_FILE)
    parser.add_argument("b", metavar="B", help="the same, to compare with")
    parser.add_argument("photos", metavar="PHOTO", nargs="*",
                        help="a photo on which to compare their activations; with --precision, any number of photos")
    parser.add_argument("--precision", choices=PRECISIONS,
                        help="of B: show how far each layer's output deviates from A's in float32")
    parser.add_argument("--tolerance", metavar="X", type=tolerance, default=0.0,
                        help="largest relative difference that counts as the same, such as 1e-3 (default: 0)")
    parser.add_argument("--layers", action="store_true",
                        help="compare the activations of every layer, not only those of whole blocks")
    parser.add_argument("--all", action="store_true",
                        help="show every tensor that differs, in the order of the network (default: the "
                             f"{SHOWN} with the largest difference)")
    add_reading(parser)
    add_json(parser)


def run(args) -> int:
    from ..images.image import open_image
    from ..jobs.comparison import compare
    from ..model.loading import load_weights

    if args.precision is None and len(args.photos) > 1:
        args.refuse("more than one PHOTO: they are for --precision; without it, name a single one")
    if args.precision is None and args.layers and not args.photos:
        args.refuse("--layers without a PHOTO: name a photo on which to compare activations")
    check_outputs(args, "json", force=True, reads=[args.a, args.b, *args.photos])
    image = open_image(args.photos[0], **reading(args)) if args.photos and args.precision is None else None
    a, b = (load_weights(weight_file(given)) for given in (args.a, args.b))
    found = compare(a, b, image, every_layer=args.layers, tolerance=args.tolerance)
    off = None if args.precision is None else _deviation(args, a, b)
    if args.json is not None:
        _write(args, found, off)
    _print_facts(args, found)
    _print_tensors(found, args.all)
    if off is not None:
        _print_deviation(args, off)
    elif image is not None:
        _print_layers(found)
        _print_top(found)
    print(f"\n{_summary(found)}")
    if off is not None:
        print(_deviation_summary(args, off))
    return 0 if found.same and (off is None or off.within(args.tolerance)) else 1


def _deviation(args, a, b):
    from ..common.progress import Progress
    from ..demo import photographs
    from ..images.image import open_image
    from ..jobs.deviation import deviation

    how = reading(args)
    for precision in ("float32", args.precision):
        compile_kernels(precision=precision)
    args.photos = args.photos or list(map(str, photographs()))

    def images():
        with Progress(len(args.photos)) as shown:
            for photo in args.photos:
                yield open_image(photo, **how)
                shown.advance()

    return deviation(a, b, images(), precision=args.precision, every_layer=args.layers)


def _print_facts(args, found) -> None:
    rows = [("", plain(args.a), _name_of_b(args), " ")]
    rows += [(fact.name, fact.a, fact.b, "|" if fact.differs else " ") for fact in found.facts]
    width = max(len(a) for _, a, _, _ in rows)
    for name, a, b, between in rows:
        print(f"{name:16}{a:{width}} {between} {b}".rstrip())


def _print_tensors(found, everything: bool) -> None:
    odd = [pair for pair in found.differing if pair.relative is None]
    apart = [pair for pair in found.differing if pair.relative is not None]
    if odd:
        print()
        _print_some(odd, everything, lambda pair: f"{pair.name:32}  {_mismatch(pair)}")
    if apart:
        apart = apart if everything else sorted(apart, key=lambda pair: -pair.relative)
        print(f"\n{'tensor':32}{'largest':>12}{'relative':>12}  {'at':20}{'A':>16}{'B':>16}")
        _print_some(apart, everything, lambda pair: f"{_distance(pair)}  {' '.join(map(str, pair.index)):20}"
                                                    f"{pair.values[0]:16.9g}{pair.values[1]:16.9g}")


def _print_some(pairs, everything: bool, row) -> None:
    shown = pairs if everything else pairs[:SHOWN]
    print(*map(row, shown), sep="\n")
    if len(shown) < len(pairs):
        print(f"... and {len(pairs) - len(shown)} more (--all shows them)")


def _distance(pair) -> str:
    return f"{pair.name:32}{pair.largest:12.3e}{pair.relative:12.3e}"


def _mismatch(pair) -> str:
    """Why the two have no distance."""
    if None in pair.shapes:
        return f"only in {'B' if pair.shapes[0] is None else 'A'}"
    if pair.shapes[0] != pair.shapes[1]:
        return " | ".join(" x ".join(map(str, shape)) for shape in pair.shapes)
    return f"not finite: {pair.values[0]} | {pair.values[1]}"


def _print_layers(found) -> None:
    print(f"\n{'layer':32}{'largest':>12}{'relative':>12}")
    for pair in found.layers:
        row = _distance(pair) if pair.relative is not None else f"{pair.name:32}  {_mismatch(pair)}"
        print(row + ("  <- they diverge here" if pair is found.parting else ""))


def _print_top(found) -> None:
    left, right = ([f"{probability:7.2%}  {short(label)}" for label, probability in rows] for rows in found.top)
    width = max(map(len, left))
    rows = max(len(left), len(right))
    print("\nmost probable")
    for a, b in zip(left + [""] * (rows - len(left)), right + [""] * (rows - len(right))):
        print(f"{a:{width}}   {b}".rstrip())


def _print_deviation(args, off) -> None:
    print(f"\n{'layer':24}{'error':>10}{'by itself':>12}{'largest':>12}")
    for layer in off.layers:
        print(f"{layer.name:24}{layer.share:10.2%}{layer.own_share:12.2%}{layer.largest:12.3g}")
    if not off.answers:
        return
    names = [Path(photo).name for photo in args.photos]
    rows = [("most probable", plain(args.a), _name_of_b(args))]
    rows += [(short(plain(name)), *(f"{one.probability:7.2%}  {short(one.label)}" for one in pair))
             for name, pair in zip(names, off.answers)]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    print()
    for name, one, other in rows:
        print(f"{name:{first}}  {one:{second}}  {other}")


def _name_of_b(args) -> str:
    return plain(args.b) + (f" in {args.precision}" if args.precision else "")


def _deviation_summary(args, off) -> str:
    last = off.layers[-1]
    kept = f"; the most probable class is the same on {off.kept} of {counted(len(off.answers), 'photo')}"
    return (f"in {args.precision}, the error of {last.name} is {last.share:.2%} of the output's standard deviation" +
            kept * bool(off.answers))


def _summary(found) -> str:
    """One line: the same, or how many tensors differ, the worst one, which settings differ, and where they diverge."""
    if found.same:
        within = f" within {found.tolerance:g}" if found.tolerance else ""
        return f"the same{within}: all {len(found.tensors)} tensors, architecture, preprocessing and labels"
    parts = [f"{len(found.differing)} of {len(found.tensors)} tensors differ"]
    apart = [pair for pair in found.differing if pair.relative is not None]
    if apart:
        worst = max(apart, key=lambda pair: pair.relative)
        parts[0] += f", the largest is {worst.name} (relative {worst.relative:.3g})"
    settings = [fact.name for fact in found.facts if fact.differs]
    if settings:
        parts.append(f"settings that differ: {', '.join(settings)}")
    if found.parting:
        parts.append(f"on the photo they diverge at {found.parting.name}")
    return "; ".join(parts)


def _write(args, found, off) -> None:
    from dataclasses import asdict

    from ..common.figure_files import write_json

    figures = {"a": args.a, "b": args.b, "photos": args.photos, "same": found.same,
               "parting": found.parting and found.parting.name, **asdict(found), "precision": args.precision,
               "deviation": off and asdict(off)}
    write_json(args.json, figures, force=True)
