"""Compare two networks: their weights and, on a photo, the layer where their activations diverge.

A tensor or a layer differs if max |a - b| / max(|a|, |b|) is above --tolerance. Only values count: precision, source
and the batch counts of batch norms are shown but not compared. Settings that differ are marked with "|".

Exit codes as for diff: 0 the two are the same, 1 they differ, 2 the comparison failed (the reason is on stderr) or
usage error, 70 a bug in npefficient.
"""
import math

from ..common.text import plain, short
from .options import add_json, add_reading, check_outputs, number, reading, weight_file

TROUBLE = 2  # exit code of a failure, since 1 means that the networks differ
SHOWN = 10  # tensors

tolerance = number(float, "a number of at least 0, a share of the largest value", lambda value: 0 <= value < math.inf)


def add_arguments(parser):
    what = "a weight file (.h5), a checkpoint (.pth, .safetensors), or lite0 to lite4 for the official weights"
    parser.add_argument("a", metavar="A", help=what)
    parser.add_argument("b", metavar="B", help="the same, to compare with")
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="a photo on which to compare their activations")
    parser.add_argument("--tolerance", metavar="X", type=tolerance, default=0.0,
                        help="largest relative difference that counts as the same, such as 1e-3 (default: 0)")
    parser.add_argument("--layers", action="store_true",
                        help="with a photo: compare every convolution and batch norm, not only whole blocks")
    parser.add_argument("--all", action="store_true",
                        help="show every tensor that differs, in the order of the network (default: the "
                             f"{SHOWN} with the largest difference)")
    add_reading(parser)
    add_json(parser)


def run(args) -> int:
    from ..images.image import open_image
    from ..jobs.comparison import compare
    from ..model.loading import load_weights

    if args.layers and args.photo is None:
        args.refuse("--layers without a PHOTO: name a photo on which to compare activations")
    check_outputs(args, "json", force=True)
    image = None if args.photo is None else open_image(args.photo, **reading(args))
    a, b = (load_weights(weight_file(given)) for given in (args.a, args.b))
    found = compare(a, b, image, every_layer=args.layers, tolerance=args.tolerance)
    if args.json is not None:
        _write(args, found)
    _print_facts(args, found)
    _print_tensors(found, args.all)
    if args.photo is not None:
        _print_layers(found)
        _print_top(found)
    print(f"\n{_summary(found)}")
    return 0 if found.same else 1


def _print_facts(args, found) -> None:
    rows = [("", plain(args.a), plain(args.b), " ")]
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


def _write(args, found) -> None:
    from dataclasses import asdict

    from ..common.figure_files import write_json

    figures = {"a": args.a, "b": args.b, "photo": args.photo, "same": found.same,
               "parting": found.parting and found.parting.name, **asdict(found)}
    write_json(args.json, figures, force=True)
