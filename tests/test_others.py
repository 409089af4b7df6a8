"""What others report, and a swap of M and K in what others compute."""

import pytest
import torch

from repro.bounds import METHODS
from repro.records import Archive
from repro.studies import reported
from tests.helpers import random_log_w

BATCH = 5


def swapped_loss(log_w):
    """MIWAE's loss as Pythae 0.1.2 has it, for log w [batch, M, K].

    The weights are normalised over the groups and averaged over the samples of a group; the paper
    has it the other way round. PIWAE's loss for the encoder is the same.
    """
    weights = log_w.softmax(1).detach()
    return -(weights * log_w).sum(1).mean(-1).mean(0)


def gradient(loss, log_w):
    log_w = log_w.clone().requires_grad_()
    loss(log_w).backward()
    return log_w.grad


def bound_of(method):
    """The loss of our bound, for log w [batch, M, K]."""

    def loss(log_w):
        of_batch = log_w.permute(1, 2, 0)
        return -METHODS[method](of_batch, of_batch)[1].mean()

    return loss


@pytest.mark.parametrize(("M", "K"), [(8, 8), (3, 5), (1, 64), (64, 1)])
def test_the_swapped_loss_is_miwaes_with_m_and_k_exchanged(M, K):
    """With 8 x 8 independent samples, which group a sample is in does not matter."""
    log_w = 3 * random_log_w(BATCH, M, K)
    found = gradient(swapped_loss, log_w)
    torch.testing.assert_close(found, gradient(bound_of("miwae"), log_w.mT).mT)
    if M == 1:  # a VAE instead of an IWAE
        torch.testing.assert_close(found, gradient(bound_of("vae"), log_w))
        assert not torch.allclose(found, gradient(bound_of("iwae"), log_w), rtol=0.1)


@pytest.mark.parametrize(("M", "K"), [(3, 5), (1, 64)])
def test_pythae_has_the_swapped_loss(M, K):
    """Through its own code: q is the prior, so that log w is what reconstructions say."""
    models = pytest.importorskip("pythae.models", reason="pythae is in the extra 'bench'")
    config = models.MIWAEConfig(
        input_dim=(7,),
        latent_dim=2,
        number_gradient_estimates=M,
        number_samples=K,
        reconstruction_loss="bce",
    )
    model = models.MIWAE(config)
    g = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 7, generator=g).round()
    again = torch.rand(BATCH, M, K, 7, generator=g).requires_grad_()
    z = torch.randn(BATCH, M, K, 2, generator=g)
    loss, *_ = model.loss_function(again, x, torch.zeros_like(z), torch.zeros_like(z), z)
    loss.backward()
    found = again.grad.clone()
    again.grad = None
    of_pixels = torch.where(x[:, None, None] == 1, again, 1 - again)
    swapped_loss(of_pixels.log().sum(-1)).backward()
    torch.testing.assert_close(found, again.grad)


def test_the_table_has_everyone_and_the_papers_own_numbers():
    table = reported.table_of_others(Archive())
    assert table.count("\n") == 1 + len(reported.everybody(Archive()))
    assert "−84.97 ± 0.10" in table
    assert "MIWAE(8,8) −85.09" in table
    assert "CIWAE(0.05) −84.74" in table
