"""Datasets, models and estimators by name. No PyTorch is needed to read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

PIXELS = 784  # of the project's own images, which are rows of them
CHANNELS = (1, 3)  # numbers of a pixel in a picture
LEAST_SIDE = 4  # pixels of a picture; fewer numbers are no picture

DATASETS = {  # name -> which version of the images it is
    "digits": "scikit-learn's 8x8 handwritten digits, resized bilinearly to 28x28",
    "mnist": "MNIST, pixel/255",
    "omniglot": "Omniglot, Burda's 28x28 (chardata.mat)",
    "omniglot-lake": (
        "Omniglot, Lake's drawings resized bicubically to 28x28, drawers 1-15 / 16-20"
    ),
}
OMNIGLOT = "omniglot-lake"  # the version that is available everywhere

# A model trained on the first is tested on the second, too.
OTHER_DATASET = {"mnist": OMNIGLOT, "omniglot": "mnist", "omniglot-lake": "mnist"}


def picture_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Height, width and colours of an image of this shape; None if it is no picture.

    Colours may come first.

    >>> picture_shape((784,)), picture_shape((28, 20)), picture_shape((3, 32, 32))
    ((28, 28, 1), (28, 20, 1), (3, 32, 32))
    >>> picture_shape((7,)) is None
    True
    """
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        shape = (side, side) if side * side == shape[0] else ()
    if len(shape) == 2:
        shape = (*shape, 1)
    is_picture = len(shape) == 3 and (shape[0] in CHANNELS or shape[-1] in CHANNELS)
    return tuple(shape) if is_picture and sorted(shape)[1] >= LEAST_SIDE else None


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks: two tanh layers each, Gaussian q(z|x) and prior, Bernoulli p(x|z)."""

    hidden: int
    latent: int
    pixels: int = PIXELS

    @property
    def parameters(self) -> int:
        """Number of weights and biases in both networks."""
        of_encoder = (self.pixels, self.hidden, self.hidden, 2 * self.latent)
        of_decoder = (self.latent, self.hidden, self.hidden, self.pixels)
        affine_maps = [*pairwise(of_encoder), *pairwise(of_decoder)]
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in affine_maps)


MODELS = {
    "reference": Architecture(hidden=200, latent=50),
    "larger": Architecture(hidden=400, latent=20),
}

# Of phi's gradient: in full, sticking the landing (q's own parameters are held still where log w
# is differentiated), doubly reparameterised, and of reweighted wake-sleep, for any smooth bound.
ESTIMATORS = ("rep", "stl", "drep", "rws")
SECOND_ORDER = ("drep", "rws")  # those that take a bound's second derivatives
