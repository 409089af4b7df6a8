"""Datasets, models and estimators by name. No PyTorch is needed to read them."""

from dataclasses import dataclass

PIXELS = 784

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


@dataclass(frozen=True)
class Architecture:
    """Two tanh layers each way, diagonal Gaussian q(z|x), N(0, I) prior, Bernoulli p(x|z)."""

    hidden: int
    latent: int
    pixels: int = PIXELS

    @property
    def parameters(self) -> int:
        """Weights and biases of both networks."""
        affine_maps = (
            (self.pixels, self.hidden),
            (self.hidden, self.hidden),
            (self.hidden, 2 * self.latent),
            (self.latent, self.hidden),
            (self.hidden, self.hidden),
            (self.hidden, self.pixels),
        )
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in affine_maps)


MODELS = {
    "reference": Architecture(hidden=200, latent=50),
    "larger": Architecture(hidden=400, latent=20),
}

# Of phi's gradient: in full, sticking the landing (q's own parameters are held still where log w
# is differentiated), doubly reparameterised, and of reweighted wake-sleep, for any smooth bound.
ESTIMATORS = ("rep", "stl", "drep", "rws")
SECOND_ORDER = ("drep", "rws")  # those that take a bound's second derivatives
