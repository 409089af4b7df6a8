"""The training step in JAX; ``peers.jax`` is the way to it, because JAX need not be installed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from repro.catalogue import Architecture

# The places in ``bounds`` of theta's and phi's bound.
PLACES = {"iwae": (0, 0), "piwae": (0, 1), "miwae": (1, 1), "vae": (2, 2), "ciwae": (3, 3)}
ENCODER_LAYERS = 4

tree_map = jax.tree_util.tree_map


def initial(key, shape: Architecture) -> list:
    """The weights and biases of one run, encoder first."""
    sizes = [
        (shape.pixels, shape.hidden),
        (shape.hidden, shape.hidden),
        (shape.hidden, shape.latent),
        (shape.hidden, shape.latent),
        (shape.latent, shape.hidden),
        (shape.hidden, shape.hidden),
        (shape.hidden, shape.pixels),
    ]
    layers = []
    for k, (fan_in, fan_out) in zip(jax.random.split(key, len(sizes)), sizes, strict=True):
        limit = fan_in**-0.5
        weight = jax.random.uniform(k, (fan_in, fan_out), minval=-limit, maxval=limit)
        layers.append((weight, jnp.zeros(fan_out)))
    return layers


def affine(x, layer):
    """W x + b."""
    return x @ layer[0] + layer[1]


def log_weights(parameters, x, eps):
    """log w [64, batch] at x [batch, pixels] and eps [64, batch, latent]."""
    hidden1, hidden2, of_mu, of_sigma, hidden3, hidden4, of_logits = parameters
    h = jnp.tanh(affine(jnp.tanh(affine(x, hidden1)), hidden2))
    mu = affine(h, of_mu)
    sigma = jax.nn.softplus(affine(h, of_sigma))
    z = mu + sigma * eps
    logits = affine(jnp.tanh(affine(jnp.tanh(affine(z, hidden3)), hidden4)), of_logits)
    log_px_z = (x * logits - jax.nn.softplus(logits)).sum(-1)
    return log_px_z + (0.5 * (eps**2 - z**2) + jnp.log(sigma)).sum(-1)


def bounds(log_w):
    """Mean bounds of log w [64, batch], without a constant: IWAE, MIWAE, VAE and CIWAE."""
    iwae = jax.nn.logsumexp(log_w, 0).mean()
    miwae = jax.nn.logsumexp(log_w.reshape(8, 8, -1), 1).mean()
    vae = log_w.mean()
    return jnp.stack([iwae, miwae, vae, 0.5 * (vae + iwae)])


def loss_and_gradient(parameters, x, eps, places, two_passes: bool):
    """Theta's loss, and the gradients of both losses.

    ``places`` names their bounds. Without ``two_passes`` theta's is phi's, too.
    """
    theta, phi = places

    def values_of(q):
        return bounds(log_weights(q, x, eps))

    if not two_passes:
        return jax.value_and_grad(lambda q: -values_of(q)[theta])(parameters)
    values, pull = jax.vjp(values_of, parameters)
    one_hot = jnp.eye(4)
    (of_theta,) = pull(-one_hot[theta])
    (of_phi,) = pull(-one_hot[phi])
    return -values[theta], [*of_phi[:ENCODER_LAYERS], *of_theta[ENCODER_LAYERS:]]


def adam(parameters, moments, t, gradient):
    """Parameters and moments after Adam's step t, which counts from 1."""
    m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradient)
    v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradient)

    def moved(q, m, v):
        return q - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return tree_map(moved, parameters, m, v), (m, v)


def jitted(
    methods: list[str], images: np.ndarray, shape: Architecture, batch: int, steps: int, seed: int
) -> tuple[Callable[[], object], Callable[[], list]]:
    """Functions that take ``steps`` steps of all runs, and give layers; see ``peers.jax``."""
    pixels = jnp.asarray(images)
    places = jnp.asarray([PLACES[method] for method in methods])
    two_passes = "piwae" in methods

    def one_step(parameters, moments, t, key, places):
        of_batch, of_pixels, of_noise = jax.random.split(key, 3)
        p = pixels[jax.random.randint(of_batch, (batch,), 0, len(pixels))]
        x = (jax.random.uniform(of_pixels, p.shape) < p).astype(jnp.float32)
        eps = jax.random.normal(of_noise, (64, batch, shape.latent))
        loss, gradient = loss_and_gradient(parameters, x, eps, places, two_passes)
        parameters, moments = adam(parameters, moments, t, gradient)
        return parameters, moments, loss

    step_of_all = jax.vmap(one_step, (0, 0, None, 0, 0))

    def body(carry, _):
        parameters, moments, t, keys = carry
        keys, now = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        parameters, moments, loss = step_of_all(parameters, moments, t, now, places)
        return (parameters, moments, t + 1, keys), loss

    scan = jax.jit(lambda carry: jax.lax.scan(body, carry, None, length=steps), donate_argnums=0)
    keys = jax.random.split(jax.random.PRNGKey(2 * seed), len(methods))
    parameters = jax.vmap(lambda key: initial(key, shape))(keys)
    moments = (tree_map(jnp.zeros_like, parameters), tree_map(jnp.zeros_like, parameters))
    keys = jax.random.split(jax.random.PRNGKey(2 * seed + 1), len(methods))
    carry = (parameters, moments, jnp.float32(1), keys)

    def step():
        nonlocal carry
        carry, loss = scan(carry)
        return loss.block_until_ready()

    def layers():
        return [(np.array(weight[0]).T, np.array(bias[0])) for weight, bias in carry[0]]

    return step, layers
