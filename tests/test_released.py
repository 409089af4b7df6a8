"""The released code's training steps, against the same steps with autograd and two optimisers."""

from dataclasses import replace

import pytest
import torch

from repro import ReproError
from repro.bounds import iwae, miwae
from repro.catalogue import MODELS
from repro.models import Autoencoder
from repro.training.as_released import ProgramAsReleased
from repro.training.loop import make
from repro.words import experiments
from tests.helpers import few_digits, twin_draws

pytestmark = pytest.mark.usefixtures("small")


def plan(method, **words):
    return experiments.plan(method, profile="smoke", protocol="released", **words)


def test_piwae_steps_the_encoder_then_the_decoder_on_fresh_samples():
    stack = make(plan("piwae"), few_digits(500))
    assert isinstance(stack, ProgramAsReleased)
    draws = twin_draws(stack, few_digits(500))
    model = Autoencoder(MODELS["reference"], [0])
    of_encoder = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)
    of_decoder = torch.optim.Adam(model.decoder.parameters(), lr=1e-3)

    def ascend(adam, bound):
        adam.zero_grad()
        (-bound.mean(-1)).sum().backward()
        adam.step()

    for _ in range(4):
        x, noise = next(draws)
        _, log_w_phi = model(x, noise(10 * 10))
        ascend(of_encoder, miwae(log_w_phi.unflatten(1, (10, 10))))
        log_w_theta, _ = model(x, noise(1 * 10))
        ascend(of_decoder, iwae(log_w_theta.unflatten(1, (1, 10))))
        stack.step()
    for a, b in zip(model.parameters(), stack.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_ciwae_at_one_sample_is_a_vae_with_two_whatever_the_name():
    released = make(plan("ciwae"), few_digits(500))
    (vae,) = experiments.plan("vae", profile="smoke")
    two_samples = make([replace(vae, M=2, K=1)], few_digits(500))
    for _ in range(5):
        released.step()
        two_samples.step()
    for a, b in zip(released.model.parameters(), two_samples.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_vae_has_one_sample():
    (e,) = plan("vae")
    assert (e.M, e.K) == (1, 1)
    stack = make([e], few_digits(500))
    stack.step()
    assert stack.losses[0].isfinite().all()


def test_a_free_beta_descends_through_zero_and_the_objective_is_no_bound_then():
    stack = make(plan("ciwae-learned", K=64), few_digits(500))
    stack.learning_rate.fill_(0.05)
    betas = [stack.beta.item()]
    for _ in range(20):
        stack.step()
        betas.append(stack.beta.item())
    assert betas[0] == 0.5
    assert betas == sorted(betas, reverse=True)
    assert betas[-1] < 0


def test_at_one_sample_beta_has_nothing_to_descend():
    """Both terms have the same expectation, so beta walks without a direction."""
    stack = make(plan("ciwae-learned"), few_digits(500))
    gradients = []
    for _ in range(25):
        stack.step()
        gradients.append(stack.beta_parameter.grad.item())
    gradients = torch.tensor(gradients)
    assert gradients.mean().abs() < 4 * gradients.std() / 5


def test_words_that_the_released_code_does_not_heed_are_refused():
    with pytest.raises(ReproError, match="trains iwae as the paper says; leave the protocol out"):
        plan("iwae")
    with pytest.raises(ReproError, match=r"trains piwae with \(10, 10\) whatever M and K say"):
        plan("piwae", K=8)
    with pytest.raises(ReproError, match="unknown protocol 'relased'; did you mean 'released'"):
        experiments.plan("vae", profile="smoke", protocol="relased")
    assert [e.method for e in plan("all")] == ["piwae", "ciwae", "vae"]
    assert plan("piwae")[0].name == "piwae-M10-K10-seed0-released"
    assert plan("ciwae", K=64)[0].command.endswith("--protocol released --K 64 --profile smoke")
