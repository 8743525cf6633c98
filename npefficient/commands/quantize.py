"""Write the int8 weights of a model to a weight file (.h5), about a quarter of the size.

`npefficient classify`, `validate`, `explain`, `profile` and `info` take the file like any other. The results are the
same to the bit as those of the float32 file with --precision int8, which quantises it at each start. Preprocessing and
class names stay. The float32 weights can't be recovered: keep them for `npefficient export`, `finetune` and `compare`.
"""
from ..common.text import plain
from .options import WEIGHT_FILE, weight_file
from .values import weight_output


def add_arguments(parser):
    parser.add_argument("source", metavar="MODEL|FILE", help=WEIGHT_FILE)
    parser.add_argument("target", metavar="OUT.h5", type=weight_output, help="the file to write")
    parser.add_argument("--force", action="store_true", help="overwrite an existing OUT.h5")


def run(args) -> int:
    from ..jobs.quantizing import quantize

    done = quantize(weight_file(args.source), args.target, force=args.force)
    weights, network = done.weights, done.weights.architecture
    print(f"read     {plain(args.source)}: {network.name}, {network.interface}")
    print(f"rounded  {len(weights.layers)} layers to int8; {' and '.join(weights.float_layers)} stay in float32")
    print(f"wrote    {plain(done.target)}, {done.target_size:,} bytes, read back and compared")
    if network.num_classes:
        print(f"next     npefficient classify PHOTO --weights {plain(done.target)}")
    return 0
