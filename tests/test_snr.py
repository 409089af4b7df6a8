"""The signal-to-noise ratio of gradients: closed forms, the theory's rates, and measurements."""

import functools
import itertools

import numpy as np
import pytest
import torch

from repro import ReproError, datasets, tables
from repro import signal as snr
from repro.bounds import METHODS, USUAL_BETA
from repro.catalogue import MODELS, OMNIGLOT, Architecture
from repro.cli import main
from repro.models import Autoencoder
from repro.randomness import Streams
from repro.records import Archive
from repro.studies import gradient_runs
from repro.studies.designs import (
    AT_T,
    LAYOUTS,
    LINEAR_GAUSSIAN,
    LOOSER_OFFSETS,
    NETWORKS,
    NETWORKS_OF_ESTIMATORS,
    OF_ESTIMATORS,
    OFFSETS,
    Layout,
)
from repro.studies.gradients import exponent, ratio, select, with_jackknife
from repro.training import released_files
from repro.words.exhibits import released_runs
from repro.words.experiments import ESTIMATORS, plan
from tests.helpers import paper_log_w, planted_gradients, write_record

NEAR, FAR = (offset for offset, _ in LINEAR_GAUSSIAN.values())
ONE_SAMPLE = Layout("iwae", 1, 1)
PLACES = (*LINEAR_GAUSSIAN, *NETWORKS)


def test_estimates_of_the_elbo_have_the_closed_forms_mean_and_variance():
    """d log w / d mu = z - mu and d log w / d b = mu + x - 2 z.

    Their means have closed forms, and their variances are sigma^2 and 4 sigma^2.
    """
    x, mu, mean = snr.problem(0, NEAR)
    theta, phi, ess = snr.gradient_estimates(Layout("vae", 1, 1), 20_000, 0, NEAR)
    for estimates, expected, variance in (
        (theta, mean - mu, snr.Q_SIGMA**2),
        (phi, mu + x - 2 * mean, 4 * snr.Q_SIGMA**2),
    ):
        standard_error = (variance / 20_000) ** 0.5
        assert ((estimates.mean(0) - expected).abs() < 5 * standard_error).all()
        signal, noise = snr.signal_and_noise(estimates)
        assert noise == pytest.approx(snr.D * variance, rel=0.02)
        length = float(expected.norm())
        tolerance = 5 * (2 * length * standard_error + noise / 20_000)
        assert signal == pytest.approx(length**2, abs=tolerance)
    torch.testing.assert_close(ess, torch.ones_like(ess))


def test_gradients_are_those_of_the_density():
    from torch.distributions import Normal

    x, mu, mean = snr.problem(0, NEAR)
    g = torch.Generator().manual_seed(1)
    eps = torch.randn(3, 5, 1, snr.D, generator=g, dtype=torch.float64)
    mu = mu.clone().requires_grad_()
    mean = mean.clone().requires_grad_()
    z = mean + snr.Q_SIGMA * eps
    log_pxz = Normal(mu, 1).log_prob(z) + Normal(z, 1).log_prob(x)
    log_w = (log_pxz - Normal(mean, snr.Q_SIGMA).log_prob(z)).sum(-1)
    theta, phi = METHODS["piwae"](log_w, log_w)
    (at_mu,) = torch.autograd.grad(theta.sum(), mu, retain_graph=True)
    (at_b,) = torch.autograd.grad(phi.sum(), mean)
    w = log_w.detach().flatten().softmax(0)
    ours = snr.gradient_estimates(Layout("piwae", 3, 5), 1, 0, NEAR)
    for found, expected in zip(ours, (at_mu, at_b, 1 / (w @ w)), strict=True):
        torch.testing.assert_close(found[0], expected)


def test_the_bias_of_the_bound_is_that_of_the_closed_form():
    """The ELBO's is minus the Kullback-Leibler divergence of two Gaussians."""
    from torch.distributions import Independent, Normal, kl_divergence

    x, mu, mean = snr.problem(0, NEAR)
    q = Independent(Normal(mean, torch.full_like(mean, snr.Q_SIGMA)), 1)
    posterior = Independent(Normal((mu + x) / 2, torch.full_like(mu, 0.5**0.5)), 1)
    elbo = snr.bias_of_bound(Layout("vae", 64, 1), 0, NEAR)
    assert elbo == pytest.approx(-float(kl_divergence(q, posterior)), rel=0.05)
    tighter = snr.bias_of_bound(Layout("iwae", 1, 64), 0, NEAR)
    assert elbo < tighter < 0
    mixed = snr.bias_of_bound(Layout("ciwae", 1, 64), 0, NEAR)
    assert mixed == pytest.approx((elbo + tighter) / 2)


@pytest.mark.parametrize("net", [0, 1], ids=["theta", "phi"])
def test_miwaes_gradient_is_the_mean_of_as_many_of_iwaes_as_it_has_groups(net):
    """So its squared signal is IWAE's, and its squared noise IWAE's over M = 8."""
    of_one = snr.gradient_estimates(Layout("iwae", 1, 4), 4000, 0, NEAR, "drep")[net]
    of_eight = snr.gradient_estimates(Layout("miwae", 8, 4), 4000, 0, NEAR, "drep")[net]
    signal, noise = snr.signal_and_noise(of_one)
    signal_of_eight, noise_of_eight = snr.signal_and_noise(of_eight)
    assert signal_of_eight == pytest.approx(signal, rel=0.05)
    assert noise_of_eight * 8 == pytest.approx(noise, rel=0.05)


@functools.cache
def logarithm(part, net, K, offset, estimator):
    """Half the logarithm of IWAE's squared signal or noise, the mean of two problems."""
    values = []
    for seed in (0, 1):
        estimates = snr.gradient_estimates(Layout("iwae", 1, K), 60, seed, offset, estimator)
        of_net = snr.signal_and_noise(estimates[("theta", "phi").index(net)])
        values.append(np.log(of_net[("signal", "noise").index(part)]) / 2)
    return np.mean(values)


def rate(net, offset, estimator, signal_from=None):
    """d log SNR / d log K of IWAE from K = 256 to 1024.

    The signal may be that of another estimator with the same expectation.
    """

    def log_snr(K):
        signal = logarithm("signal", net, K, offset, signal_from or estimator)
        return signal - logarithm("noise", net, K, offset, estimator)

    return (log_snr(1024) - log_snr(256)) / np.log(4)


@pytest.mark.slow
def test_doubly_reparameterised_the_gradient_gets_clearer_with_more_samples():
    """The theory's rates near the optimum; further away they do not hold yet, as the ESS is small.

    The signal of ``rep`` is too small to be measured, and is taken from ``drep``.
    """
    assert rate("theta", NEAR, "rep") == pytest.approx(0.5, abs=0.05)
    assert rate("phi", NEAR, "drep") == pytest.approx(0.5, abs=0.05)
    assert rate("phi", NEAR, "rep", signal_from="drep") == pytest.approx(-0.5, abs=0.05)
    assert rate("theta", FAR, "rep") < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_the_ratio_of_wake_sleep_grows_as_the_root_of_k_to_its_closed_form(seed):
    """For many samples, near the optimum, of sum_k w_k g_k with g = d log w / dz.

    With the posterior N(a, 1/2), q = N(m, 2/3), and d = a - m, E g = 3/2 d. K times the squared
    noise is E_q (w/Z)^2 |g - E g|^2: the mean of |z - a|^2 / 4 under N(a + 3/5 d, 2/5), times
    (16/15)^(D/2) exp(6/5 |d|^2).
    """
    x, mu, mean = snr.problem(seed, NEAR)
    d = float(((mu + x) / 2 - mean).norm())
    weight = (16 / 15) ** (snr.D / 2) * np.exp(1.2 * d**2)
    noise = weight * (0.4 * snr.D + (0.6 * d) ** 2) / 4
    for K, tolerance in ((256, 0.06), (1024, 0.04)):
        _, of_phi, _ = snr.gradient_estimates(Layout("iwae", 1, K), 100, seed, NEAR, "rws")
        signal, measured = snr.signal_and_noise(of_phi)
        expected = (K * (1.5 * d) ** 2 / noise) ** 0.5
        assert (signal / measured) ** 0.5 == pytest.approx(expected, rel=tolerance)


def test_under_rws_ciwaes_gradient_is_iwaes_with_a_factor():
    of_ciwae, of_iwae = (
        snr.gradient_estimates(Layout(method, 1, 15), 7, 0, NEAR, "rws")[1]
        for method in ("ciwae", "iwae")
    )
    torch.testing.assert_close(of_ciwae, (1 - USUAL_BETA) * of_iwae)


def test_known_signal_and_noise_are_recovered_without_bias():
    """The signal is a tenth of what the noise leaves in the mean of so few estimates."""
    g = torch.Generator().manual_seed(0)
    n = 500
    signal = 0.1 / n**0.5
    found = []
    for _ in range(4000):
        estimates = signal + torch.randn(n, 20, generator=g, dtype=torch.float64)
        found.append(snr.signal_and_noise(estimates))
    found = np.array(found)
    expected = np.array([20 * signal**2, 20])
    errors = found.std(0) / 4000**0.5
    assert (np.abs(found.mean(0) - expected) < 4 * errors).all()
    assert 5 * errors[0] < 20 / n, "a bias of noise / n would be seen"


def test_planted_exponents_are_found_and_errors_are_those_of_the_draws():
    rows = planted_gradients({"theta": 0.5, "phi": -0.25})
    for net, power in (("theta", 0.5), ("phi", -0.25)):
        found = with_jackknife(rows, functools.partial(exponent, net=net, counts=(4, 64)))
        assert found.value == pytest.approx(power)
        assert found.se == pytest.approx(0, abs=1e-12)
    sizes = select(rows, ONE_SAMPLE).theta_signal
    assert ratio(rows, ONE_SAMPLE, "theta") == pytest.approx(sizes.mean() ** 0.5)
    mean = with_jackknife(rows, lambda some: select(some, ONE_SAMPLE).theta_signal.mean())
    assert mean.value == pytest.approx(sizes.mean())
    assert mean.se == pytest.approx(sizes.sem())


@pytest.fixture
def tiny():
    """A model of one run, in double precision."""
    return Autoencoder(Architecture(hidden=4, latent=2, pixels=6), [0]).double()


def test_gradients_in_a_network_are_those_of_the_density(tiny):
    def noise(shape):
        return Streams([1], "test", "cpu").normal(shape).double()

    x = torch.rand(1, 7, 6, dtype=torch.float64).round()
    *ours, ess = snr.network_gradients(tiny, x, Layout("piwae", 3, 5), noise)
    w = paper_log_w(tiny, 0, x[0], noise((15, 7, 2))[0]).exp().view(3, 5, 7)
    iwae = w.mean((0, 1)).log()
    miwae = w.mean(1).log().mean(0)
    for found, bound, net in zip(ours, (iwae, miwae), (tiny.decoder, tiny.encoder), strict=True):
        expected = torch.autograd.grad(bound.mean(), [*net.parameters()], retain_graph=True)
        torch.testing.assert_close(found, torch.cat([g.flatten() for g in expected]))
    torch.testing.assert_close(ess, (w.sum((0, 1)) ** 2 / (w**2).sum((0, 1))).mean())


def test_in_a_network_only_the_samples_of_z_differ_between_replicates(tiny, monkeypatch):
    """The rows are those of a plain loop over replicates.

    It has one binarised batch for each draw.
    """
    seen = []
    network_gradients = snr.network_gradients

    def spy(model, x, *rest):
        found = network_gradients(model, x, *rest)
        seen.append((x, *found))
        return found

    monkeypatch.setattr(snr, "network_gradients", spy)
    images = torch.rand(9, 6, generator=torch.Generator().manual_seed(0))

    def rows_of(model):
        return [
            *snr.in_network("here", model, images, LAYOUTS, batches=2, replicates=4, batch_size=3)
        ]

    rows = rows_of(tiny.float())
    places = [(r["draw"], r["method"], r["M"], r["K"]) for r in rows]
    assert places == [(draw, *layout) for draw, layout in itertools.product(range(2), LAYOUTS)]
    half = len(seen) // 2
    for part in (seen[:half], seen[half:]):
        assert all(torch.equal(x, part[0][0]) for x, *_ in part)
    assert not torch.equal(seen[0][0], seen[half][0])
    theta = torch.stack([s[1] for s in seen[:4]]).double()  # the first layout's four replicates
    assert len({tuple(t.tolist()) for t in theta}) == 4
    noise = ((theta - theta.mean(0)) ** 2).sum() / 3
    assert rows[0]["theta_noise"] == pytest.approx(float(noise))
    assert rows[0]["theta_signal"] == pytest.approx(float((theta.mean(0) ** 2).sum() - noise / 4))
    assert rows == rows_of(tiny)


@pytest.mark.parametrize("where", PLACES)
def test_measured_ratios_have_what_must_hold_and_what_the_pages_say(where):
    """64 independent estimates have 8 times the ratio of one.

    IWAE's gradient is the least clear of all, for both networks.
    """
    rows = Archive().table("gradients")[0]
    rows = rows[rows["where"] == where]
    assert len(rows) == len(LAYOUTS) * rows.draw.nunique()
    for net in ("theta", "phi"):
        ratios = {layout: ratio(rows, layout, net) for layout in LAYOUTS}
        times = ratios[Layout("vae", 64, 1)] / ratios[ONE_SAMPLE]
        assert times == pytest.approx(8, rel=0.08)
        assert min(AT_T, key=ratios.get) == Layout("iwae", 1, 64)


def test_with_more_samples_wake_sleep_gets_clearer_everywhere_and_iwae_less_clear():
    """In two linear Gaussian models and five networks; no column has one sample."""
    table = tables.snr_by_count()
    assert [*table.columns] == [f"K = {K}" for K in (4, 16, 64, 256, 512)]
    values = table.map(lambda cell: cell.value)
    of_rws, of_rep = (values.xs(name, level="estimator") for name in ("rws", "rep"))
    assert len(of_rws) == len(LOOSER_OFFSETS) + len(NETWORKS_OF_ESTIMATORS)
    steps = of_rws.diff(axis=1).iloc[:, 1:], of_rep.diff(axis=1).iloc[:, 1:]
    assert (steps[0] >= 0).all(axis=None)
    assert (steps[1] <= 0).all(axis=None)


def test_a_table_that_is_missing_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ReproError, match="make it with: python -m repro gradients"):
        Archive(tmp_path).table("gradients")


def test_the_command_writes_the_table_once(tmp_path, monkeypatch, capsys):
    """The measurements are replaced by planted ones."""
    rows = planted_gradients({"theta": 0.5, "phi": -0.5}).to_dict("records")

    def untrained(e, data):
        return Autoencoder(MODELS[e.model], [0]).run_state(0)

    def dark_images(name, data):
        return datasets.Dataset(name, "planted", *torch.zeros(2, 1, 784))

    def planted(where, *rest):
        return ({"where": where} | row for row in rows)

    def estimated(where, *rest):
        """Of doubly reparameterised gradients the noise is a quarter."""
        for draw, layout, estimator in itertools.product(range(3), OF_ESTIMATORS, ESTIMATORS):
            measured = layout._asdict() | {"where": where, "draw": draw, "estimator": estimator}
            sizes = dict.fromkeys(("theta_signal", "theta_noise", "phi_signal", "phi_noise"), 4.0)
            yield measured | sizes | {"phi_noise": 1.0 if estimator == "drep" else 4.0}

    monkeypatch.setattr(released_files, "released_weights", untrained)
    monkeypatch.setattr(datasets, "load", dark_images)
    monkeypatch.setattr(gradient_runs, "in_linear_gaussian", planted)

    def in_network(where, model, images, *which):
        return planted(where) if which == (LAYOUTS,) else estimated(where)

    def at_offset(offset, *which):
        return planted(f"offset {offset}")

    monkeypatch.setattr(gradient_runs, "in_network", in_network)
    monkeypatch.setattr(gradient_runs, "at_offset", at_offset)
    full = plan("iwae", OMNIGLOT, profile="full", precision="tf32")[0]
    write_record(tmp_path, full, weights=Autoencoder(MODELS["reference"], [0]).run_state(0))
    assert main(["gradients", "--results", str(tmp_path)]) == 0
    table, origin = Archive(tmp_path).table("gradients")
    assert [*table["where"].unique()] == [*PLACES]
    (weights,) = origin["weights"].values()
    assert weights in map(released_files.provenance_of_weights, released_runs())
    _, origin = Archive(tmp_path).table("estimators")
    assert [*origin["weights"]] == [*NETWORKS_OF_ESTIMATORS][1:]
    assert origin["weights"]["Omniglot, our IWAE"]["record"].endswith(full.name)
    swept, _ = Archive(tmp_path).table("samples")
    assert swept["where"].nunique() == len(OFFSETS) + len(NETWORKS_OF_ESTIMATORS)
    looser, _ = Archive(tmp_path).table("looser")
    assert looser["where"].nunique() == len(LOOSER_OFFSETS) + len(NETWORKS_OF_ESTIMATORS)
    shown = tables.as_strings(tables.snr_exponents(tmp_path))
    assert shown.loc[(PLACES[0], "inference"), "K 4 to 16"] == "−0.500 ± 0.000"
    shown = tables.as_strings(tables.snr_estimators(tmp_path))
    assert [*shown.loc[([*NETWORKS][1], "U-MIWAE(8,8)")]] == [
        "1.00 ± 0.00", "1.00 ± 0.00", "1.00 ± 0.00", "2.00 ± 0.00", "1.00 ± 0.00"
    ]  # fmt: skip
    assert main(["gradients", "--results", str(tmp_path)]) == 0
    assert "is there already; make it again with --results ELSEWHERE" in capsys.readouterr().out
    monkeypatch.setenv("REPRO_RESULTS_DIR", str(tmp_path))  # the project's, which has our weights
    assert main(["gradients", "--results", str(tmp_path / "elsewhere")]) == 0
    _, origin = Archive(tmp_path / "elsewhere").table("estimators")
    assert origin["weights"]["Omniglot, our IWAE"]["record"].endswith(full.name)
