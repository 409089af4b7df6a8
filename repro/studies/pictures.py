"""Pictures of trained models: samples, steps along a latent unit, and posteriors in the plane."""

import numpy as np

from repro.records import Archive
from repro.records.estimates import number
from repro.studies.captions import METHOD_TITLES
from repro.studies.designs import PLANE_IMAGES, PLANE_LAYOUTS
from repro.studies.frames import AnyArchive
from repro.studies.style import COLOURS, styled, subplots, tiled
from repro.words.experiments import TABLE_METHODS

WHOSE = ("MNIST, the report's", "Omniglot, ours")
PIXELS_ACROSS = 28


def drawn_samples(archive: AnyArchive = None):
    """Samples of the generative networks: a row for each method."""
    return _strips("samples", archive)


def along_a_unit(archive: AnyArchive = None):
    """Images along one latent unit, from -2 to 2: a row for each method."""
    return _strips("traversals", archive)


@styled(frame=True)
def _strips(name: str, archive: AnyArchive):
    images = Archive.of(archive).arrays("pictures")[0][name]
    methods = len(TABLE_METHODS)
    figure, axes = subplots(1, 2, (8, 2.1))
    for panel, (ax, title) in enumerate(zip(axes.flat, WHOSE, strict=True)):
        of_panel = images[panel * methods : (panel + 1) * methods]
        ax.imshow(tiled(of_panel), cmap="gray_r", vmin=0, vmax=255, interpolation="none")
        ax.set_title(title, fontsize=8)
        ax.set_xticks([])
        middles = [PIXELS_ACROSS * (row + 0.5) for row in range(methods)]
        ax.set_yticks(middles, [m.upper() for m in TABLE_METHODS], fontsize=7)
    return figure


@styled(frame=True)
def posteriors(archive: AnyArchive = None):
    """The posterior of four images in three models with two latent variables, and q at 1 and 2 sd.

    Each panel has its own window.
    """
    found = Archive.of(archive).arrays("pictures")[0]
    figure, axes = subplots(len(PLANE_LAYOUTS), PLANE_IMAGES, (8, 6.2))
    for index, ax in enumerate(axes.flat):
        layout = PLANE_LAYOUTS[index // PLANE_IMAGES]
        _draw_posterior(ax, found, index, COLOURS[layout.method])
        if index % PLANE_IMAGES == 0:
            ax.set_ylabel(METHOD_TITLES[layout.method])
        if index < PLANE_IMAGES:
            _draw_input(ax, found["inputs"][index])
    return figure


def _draw_posterior(ax, found: dict[str, np.ndarray], index: int, colour: str) -> None:
    from matplotlib.patches import Ellipse

    kl, mu, sigma, density = (found[name][index] for name in ("kl", "mu", "sigma", "density"))
    x, y = found["centre"][index]
    reach = found["reach"][index]
    window = (x - reach, x + reach, y - reach, y + reach)
    ax.imshow(density, cmap="gray_r", extent=window, origin="lower", interpolation="bilinear")
    for deviations in (1, 2):
        ax.add_patch(
            Ellipse(mu, *(2 * deviations * sigma), fill=False, edgecolor=colour, linewidth=1.5)
        )
    ax.set(xlim=window[:2], ylim=window[2:])
    ax.set_title(f"KL(q‖p) = {number(kl)}", fontsize=8)
    ax.tick_params(labelsize=6)


def _draw_input(ax, image: np.ndarray) -> None:
    """The image whose posterior a column shows, in a corner of its first panel."""
    inset = ax.inset_axes((0.74, 0.72, 0.25, 0.27))
    inset.imshow(image.reshape(PIXELS_ACROSS, PIXELS_ACROSS), cmap="gray_r", interpolation="none")
    inset.set(xticks=[], yticks=[])
