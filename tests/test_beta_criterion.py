"""A beta that is chosen: its closed form, what it converges to, and training with it."""

from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from repro import ReproError
from repro.beta import BetaCriterion, best_beta, descents
from repro.cli import repro_command
from repro.estimators import cotangents
from repro.training import loop
from repro.training.program import Program
from repro.words.experiments import plan
from tests.helpers import few_digits


def rise(beta, products):
    """J, term by term."""
    along_v, along_i, vv, vi, ii = products
    numerator = beta * along_v + (1 - beta) * along_i
    square = beta**2 * vv + 2 * beta * (1 - beta) * vi + (1 - beta) ** 2 * ii
    return numerator / square.sqrt()


def moments(seed, runs=40):
    """Products of random gradients with means: [5, runs], of which some have a best end."""
    g = torch.Generator().manual_seed(seed)
    mean_v, mean_i, noise_v, noise_i = torch.randn(4, runs, 6, generator=g).double()
    noise_v, noise_i = 2 * noise_v, 3 * noise_i + noise_v
    second = [
        (mean_v**2 + noise_v**2).sum(1),
        (mean_v * mean_i + noise_v * noise_i).sum(1),
        (mean_i**2 + noise_i**2).sum(1),
    ]
    return torch.stack([(mean_v * mean_i).sum(1), (mean_i**2).sum(1), *second])


def test_the_closed_form_is_the_maximum():
    """Beside 2,001 values of beta; some of the maxima are inside, some at either end."""
    products = moments(0)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    expected = grid[rise(grid, products).argmax(0), 0]
    found = best_beta(products, torch.full((40,), 0.3).double())
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)
    assert 5 < ((found > 0) & (found < 1)).sum() < 40
    assert (found == 0).any()


def test_the_last_beta_stays_where_nothing_tells():
    last = torch.tensor([0.2, 0.7]).double()
    falling = torch.tensor([-1.0, -1.0, 2.0, 0.5, 3.0]).double()
    the_same = torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0]).double()
    assert torch.equal(best_beta(torch.stack([falling, the_same], 1), last), last)


@pytest.mark.parametrize("window", [500, 1000, 2000])
def test_it_converges_to_the_best_beta_of_noisy_gradients(window):
    """Gradients with known means and covariance: after 6,000 batches beta is near the best."""
    g = torch.Generator().manual_seed(1)
    mean_v, mean_i = torch.tensor([[1.0, 0.2, 0.0, 0.3], [0.9, 0.0, 0.4, 0.1]]).double()
    criterion = BetaCriterion(torch.zeros(1, 4).double(), window)
    beta = torch.full((1,), 0.5).double()
    for _ in range(6000):
        noise_v, shared = torch.randn(2, 4, generator=g).double()
        of_vae = mean_v + 0.5 * noise_v
        of_iwae = mean_i + 2 * shared + 0.3 * noise_v
        beta = criterion.choose(of_vae[None], of_iwae[None], beta)
    vv = mean_v @ mean_v + 4 * 0.25
    vi = mean_v @ mean_i + 4 * 0.5 * 0.3
    ii = mean_i @ mean_i + 4 * (4 + 0.09)
    exact = torch.stack([mean_v @ mean_i, mean_i @ mean_i, vv, vi, ii])[:, None]
    best = best_beta(exact, beta)
    assert rise(beta, exact) > 0.99 * rise(best, exact)
    assert abs(beta - best) < 0.15


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_two_gradients_are_the_doubly_reparameterised_ones_of_both_ends(small, beta):
    chosen = Program(plan("ciwae", beta="learned", profile="smoke"), few_digits(500))
    end = plan("ciwae", beta=beta, profile="smoke", estimator="drep")
    of_end = Program(end, few_digits(500))
    x = chosen.images[None, :20].round()
    of_vae, of_iwae = chosen.gradients(x).ends
    expected = of_end.gradients(x).encoder
    found = of_vae if beta == 1 else of_iwae
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_descents_sum_to_the_slopes_of_the_bounds():
    """A doubly reparameterised weight of IWAE is the square of a normalised weight."""
    log_w = torch.randn(2, 5, 3, dtype=torch.float64)
    of_vae, of_iwae = descents(log_w)
    assert of_vae.sum((1, 2)).tolist() == pytest.approx([-1, -1])
    w = log_w.exp() / log_w.exp().sum(1, keepdim=True)
    torch.testing.assert_close(of_iwae, -(w * w) / 3)
    torch.testing.assert_close(of_vae, cotangents(log_w, "vae", 5, 1, "drep").phi)
    torch.testing.assert_close(of_iwae, cotangents(log_w, "iwae", 1, 5, "drep").phi)


def test_beta_moves_is_in_the_curve_and_goes_on_where_it_was(small, tmp_path):
    runs = plan("ciwae", beta="learned", profile="smoke", epochs=2)
    whole = loop.fit(runs, few_digits(500))
    betas = [line["beta"] for line in whole.curves[0]]
    assert all(0 <= b <= 1 for b in betas)
    assert betas[0] != betas[1]
    steps = iter(range(100))
    state = tmp_path / "state.pt"
    loop.fit(runs, few_digits(500), state, stop=lambda: next(steps) == 30)
    again = loop.fit(runs, few_digits(500), state)
    assert again.curves == whole.curves


def test_a_chosen_beta_leaves_its_companions_alone(small):
    """IWAE and a CIWAE with beta 0.5 end, stacked beside it, where they end without it."""
    others = plan("iwae,ciwae", profile="smoke", epochs=1, estimator="drep")
    beside = [*others, *plan("ciwae", beta="learned", profile="smoke", epochs=1)]
    alone = loop.fit(others, few_digits(500))
    stacked = loop.fit(beside, few_digits(500))
    assert stacked.curves[:2] == alone.curves


def test_it_is_one_word():
    (run,) = plan("ciwae", beta="learned", profile="short")
    assert (run.method, run.estimator) == ("ciwae-chosen", "drep")
    assert run == replace(run, beta=0.5)
    with pytest.raises(ReproError, match="is for method ciwae"):
        plan("iwae", beta="learned", profile="short")
    told = CliRunner().invoke(repro_command, ["train", "--help"]).output
    assert "or: learned" in " ".join(told.split())
