"""Write a weight file (.h5) as safetensors under timm's names.

The result loads in timm with strict=True, so that nobody is locked in.
"""
from ..text import plain
from .options import weight_file


def add_arguments(parser):
    parser.add_argument("source", metavar="MODEL|FILE.h5", help="a weight file of npefficient, or lite0 to "
                                                                "lite4 for the official weights")
    parser.add_argument("target", metavar="OUT.safetensors", help="the file to write")
    parser.add_argument("--force", action="store_true", help="overwrite an existing OUT.safetensors")


def run(args) -> int:
    from weights_convert import export

    done = export(weight_file(args.source), args.target, force=args.force)
    network = done.weights.architecture
    print(f"read     {plain(args.source)}: {network.name}, {network.interface}")
    print(f"wrote    {plain(done.target)}, {len(done.weights.parameters)} tensors, {done.target_size:,} bytes, read "
          "back and compared")
    print(f"next     timm.create_model({network.name!r}, num_classes={network.num_classes}, "
          f"in_chans={network.in_chans}, global_pool={network.global_pool!r}, "
          f"checkpoint_path={str(done.target)!r})")
    return 0
