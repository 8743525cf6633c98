"""Write tests/data/golden.npz: timm's logits for seeded NumPy weights, for tests without torch.

    python tests/helpers/make_golden.py

For each variant: weights drawn by `golden_parameters` below (NumPy alone, nothing of the package), an input drawn by
`golden_input`, and the logits that timm computes from the two, in float64: torch's float32 differs between processors,
by up to 2.4e-5 here.
"""
import math
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "data" / "golden.npz"
SIZES = {"lite0": (64, 64), "lite1": (65, 49), "lite2": (75, 52), "lite3": (33, 95), "lite4": (95, 77)}
MANY = 1 << 14


def golden_parameters(shapes, seed=0):
    """Name -> array for a state_dict of the given shapes, in its order; activations stay of ordinary size.

    Every tensor is cut from one stream of small integers, so that any version of NumPy draws the same.
    """
    rng, parameters = np.random.Generator(np.random.PCG64(seed)), {}
    for name, shape in shapes.items():
        leaf = name.rsplit(".", 1)[1]
        uniform = rng.integers(-MANY, MANY, math.prod(shape)).reshape(shape) / MANY  # -1 .. 1
        if leaf == "num_batches_tracked":
            parameters[name] = np.array(7, np.int64)
            continue
        if len(shape) > 1:
            values = uniform * math.sqrt(3.0 / math.prod(shape[1:]))  # variance 1 / fan-in
        elif leaf == "running_var":
            values = 0.6 + 0.4 * uniform
        elif leaf == "weight":
            values = 1.0 + 0.3 * uniform
        else:
            values = 0.3 * uniform
        parameters[name] = values.astype(np.float32)
    return parameters


def golden_input(size, seed=0):
    """(1, H, W, 3) float32 in -1..1."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return (rng.integers(-MANY, MANY, (1, *size, 3)) / MANY).astype(np.float32)


def golden_timm(variant):
    """timm's model with the golden weights, in float32."""
    from live import timm, torch

    model = timm.create_model(f"tf_efficientnet_{variant}").eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state = {name: torch.from_numpy(array) for name, array in golden_parameters(shapes).items()}
    model.load_state_dict(state, strict=True)
    return model


def main():
    from live import logits

    found = {}
    for variant, size in SIZES.items():
        found[variant] = logits(golden_timm(variant).double(), golden_input(size).astype(np.float64))
        print(f"{variant} {size}: logits of deviation {found[variant].std():.3f}, "
              f"largest {abs(found[variant]).max():.3f}")
    np.savez(GOLDEN, **found)


if __name__ == "__main__":
    main()
