"""Write a weight file (.h5) as safetensors under timm's names.

The result loads in timm with strict=True. Class names, preprocessing and pool are stored in its metadata, from which
`npefficient convert` reads them back. If the target is a folder (an existing one, or a name ending with /), it gets
model.safetensors and a config.json, from which timm itself reads them.
"""
from ..common.text import plain
from .options import weight_file
from .values import option


def add_arguments(parser):
    parser.add_argument("source", metavar="MODEL|FILE.h5", help="a weight file of npefficient, lite0 to lite4 for the "
                                                                "official weights, or digits for the embedded model")
    parser.add_argument("target", metavar="OUT.safetensors|FOLDER/", type=_target,
                        help="the file to write, or a folder for timm")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


@option
def _target(text: str) -> str:
    from weights_convert.export import export_target

    export_target(text)
    return text


def run(args) -> int:
    from weights_convert import export

    done = export(weight_file(args.source), args.target, force=args.force)
    network, labels = done.weights.architecture, done.weights.labels
    print(f"read     {plain(args.source)}: {network.name}, {network.interface}")
    print(f"wrote    {plain(done.target)}, {len(done.weights.parameters)} tensors, {done.target_size:,} bytes, read "
          "back and compared")
    if done.config:
        print(f"wrote    {plain(done.config)}, {_settings(labels)}")
        print(f"next     timm.create_model({f'local-dir:{done.config.parent}'!r}, pretrained=True)")
        return 0
    print(f"         {_settings(labels)} are in its metadata")
    print(f"next     timm.create_model({network.name!r}, num_classes={network.num_classes}, "
          f"in_chans={network.in_chans}, global_pool={network.global_pool!r}, "
          f"checkpoint_path={str(done.target)!r})")
    print("         timm does not read the metadata; export to a folder to give it the preprocessing as well")
    return 0


def _settings(labels) -> str:
    return f"preprocessing and {f'{len(labels):,} class names' if labels else 'pool (there are no class names)'}"
