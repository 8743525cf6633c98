"""Compile the kernels now, so that the first photo does not have to wait.

That takes some seconds, once on each machine: the code is kept in ~/.cache/npefficient, or where NPEFFICIENT_CACHE
says. Each precision has code of its own, and so has training (--training), for `train` and `loss_and_gradients`.
Nothing is compiled if code for this processor came with the package. Where code can't be kept, the exit code is 1.
With --for and --into, code of both precisions is compiled for other processors, as the build of a wheel does
(NPEFFICIENT_SHIP).
"""
from .options import add_precision, compile_kernels


def add_arguments(parser):
    add_precision(parser, of_weights=False)
    parser.add_argument("--training", action="store_true", help="compile the kernels of training, too")
    parser.add_argument("--for", dest="targets", metavar="TARGET,..",
                        help="compile for these processors: x86-64-v3 (AVX2), x86-64-v4 (AVX-512), x86-64-v4-vnni "
                             "(AVX-512 with VNNI, for int8); on ARM64 neoverse-n1. Each takes processes of its own")
    parser.add_argument("--into", metavar="DIR", help="the directory for --for: engine/objects of the package that "
                                                      "is to use the code")


def run(args) -> int:
    import sys
    import time

    from ..engine import compiled
    from ..kernels.layout import TRAINING, layout_of

    if bool(args.targets) != bool(args.into):
        args.refuse("--for and --into go together: which processors, and the directory for their code")
    if args.targets and args.precision != "float32":
        args.refuse("--for compiles for both precisions: omit --precision")
    if args.targets and args.training:
        args.refuse("--for compiles no kernels of training: omit --training")
    if args.targets:
        return _ship(args)
    layouts = [layout_of(args.precision), *[TRAINING] * args.training]
    start, before = time.perf_counter(), all(map(compiled.found, layouts))
    compile_kernels(sys.stdout, args.precision, args.training)
    seconds = time.perf_counter() - start
    kept = [compiled.found(layout) for layout in layouts]
    places = [str(place or "in memory alone, it could not be kept") for place in kept]
    print(f"{'found compiled code' if before else 'compiled'} in {seconds:.1f} s: {', '.join(places)}")
    return 0 if all(kept) else 1


def _ship(args) -> int:
    from pathlib import Path

    from ..engine.shipping import ship
    from ..engine.targets import targets_named
    from .options import refusing

    with refusing(args):
        targets = targets_named(filter(None, args.targets.split(",")))
    ship(targets, Path(args.into), print)
    return 0
