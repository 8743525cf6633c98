"""Weights from wherever they are: a weight file, a checkpoint, the official ones, or random ones."""
import warnings

from .adapt import adapt
from .architecture import build
from .errors import ArgumentError
from .parameters import Weights, random_weights


def wanted_weights(name, pretrained, checkpoint_path, num_classes, in_chans, global_pool) -> Weights:
    """The weights that `create_model` is asked for; the same each time, as long as the file is."""
    if checkpoint_path is not None:
        weights = load_weights(checkpoint_path, name)
        _check_wish(weights, name, num_classes, in_chans)
    elif pretrained:
        from .hub import pretrained as fetch

        weights = load_weights(fetch(name))
    else:
        wishes = {"num_classes": num_classes, "in_chans": in_chans, "global_pool": global_pool}
        return random_weights(build(name, **{k: v for k, v in wishes.items() if v is not None}))
    return adapt(weights, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool)


def load_weights(path, name: str | None = None) -> Weights:
    """Read a weight file (.h5), or a checkpoint (.pth, .safetensors, a folder of timm's hub) as `weights_convert` does.

    `name` settles what a checkpoint's shapes leave open; what is doubtful about a checkpoint becomes a UserWarning.
    """
    from .weights import is_hdf5, read_weights

    if is_hdf5(path):
        return read_weights(path)
    from weights_convert import load

    weights, _, doubts = load(path, variant=name)
    for doubt in doubts:
        warnings.warn(f"{str(path)!r}: {doubt}", stacklevel=4)
    return weights


def _check_wish(weights: Weights, name, num_classes, in_chans) -> None:
    network = weights.architecture
    for what, wish, found in (("name", name, network.name), ("num_classes", num_classes or None, network.num_classes),
                              ("in_chans", in_chans, network.in_chans)):
        if wish is not None and wish != found:
            raise ArgumentError(f"{what} {wish!r}: these weights have {found!r} ({weights.source.name}); leave {what} "
                                "out to take what they have")
