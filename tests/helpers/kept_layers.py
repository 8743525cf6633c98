"""What a plan runs, and whether nothing overwrites a layer that is kept to the end."""
import numpy as np
from layouts import FLOAT32, VECTOR, vectors


def ran(plan):
    """The layers of a plan in their order; a pool in two steps counts once."""
    return list(dict.fromkeys(layer for layers in plan.layers for layer in layers))


def check_kept(plan):
    """Fail unless the step that made each map that is kept is the last to write there, and the maps lie apart."""
    owner = np.full(plan.arena_size // VECTOR, "", "U32")
    for step, layers in zip(plan.steps, plan.layers, strict=True):
        last = layers[-1]
        owner[places(step["out"], step["out_plane"], step["vectors"], last.out_height * last.out_width)] = last.name
    for name, made in plan.outputs.items():
        found = owner[places(made.offset, FLOAT32.plane_size(made.height * made.width), vectors(made.channels),
                             made.height * made.width)]
        assert (found == name).all(), f"{name}: {found[found != name][0]} has written over it"


def places(offset, plane, blocks, pixels):
    """The vectors of the arena where an output lies."""
    return (offset // VECTOR + np.arange(blocks)[:, None] * (plane // VECTOR) + np.arange(pixels)).ravel()
