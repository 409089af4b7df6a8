"""Models of one's own: gradients, scores, and what is refused."""

import math
from functools import partial
from itertools import islice

import pytest
import torch
import zuko
from torch import nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    Distribution,
    Exponential,
    Independent,
    MixtureSameFamily,
    Normal,
    OneHotCategoricalStraightThrough,
    TransformedDistribution,
)

import repro
from repro import ReproError
from repro.bounds import METHODS
from repro.own_models import from_distributions, loss_gradients
from repro.signal import signal_and_noise

M, K, BATCH = 3, 5, 7
PIXELS, LATENT = 11, 2
METHODS_TRIED = ("vae", "iwae", "piwae", "miwae", "ciwae", "vr-iwae", "u-miwae")


class Gaussian(nn.Module):
    """A normal distribution whose mean and deviation come from one hidden layer."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.hidden = nn.Linear(inputs, 13)
        self.mean = nn.Linear(13, outputs)
        self.log_sigma = nn.Linear(13, outputs)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        return Normal(self.mean(h), self.log_sigma(h).exp())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return from_distributions(Gaussian(PIXELS, LATENT), Gaussian(LATENT, PIXELS)).double()


@pytest.fixture
def x():
    return torch.randn(BATCH, PIXELS, generator=torch.Generator().manual_seed(1)).double()


def of_seed(seed, function, *asked, **how):
    torch.manual_seed(seed)
    return function(*asked, **how)


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_gradients_are_those_of_the_two_bounds(model, x, method):
    found = of_seed(2, loss_gradients, model, x, method, M, K, beta=0.3)
    log_w = of_seed(2, model.log_weights, x, M * K).unflatten(0, (M, K))
    theta, phi = (bound.mean() for bound in METHODS[method](log_w, log_w, 0.3))
    wanted = torch.autograd.grad(-theta, model.theta, retain_graph=True)
    torch.testing.assert_close(found.theta, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.phi, torch.autograd.grad(-phi, model.phi))
    torch.testing.assert_close(found.bound, theta.detach())


def test_backward_sets_what_gradients_finds(model, x):
    found = of_seed(3, loss_gradients, model, x, "piwae", M, K, "drep")
    bound = of_seed(3, repro.backward, model, x, "piwae", M, K, "drep")
    assert bound == found.bound
    for parameter, gradient in zip(
        [*model.theta, *model.phi], found.theta + found.phi, strict=True
    ):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize(("estimator", "power"), [("stl", 1), ("drep", 2)])
def test_estimators_differentiate_through_z_alone(model, x, estimator, power):
    """IWAE's: normalised weights, squared under drep, times the gradient of each log w."""
    found = of_seed(4, loss_gradients, model, x, "iwae", 1, M * K, estimator)
    q = model.encoder(x)
    torch.manual_seed(4)
    z = q.rsample((M * K,))
    log_q = Normal(q.mean.detach(), q.stddev.detach()).log_prob(z).sum(-1)
    log_w = model.log_joint(x, z) - log_q
    counts = log_w.detach().softmax(0) ** power / BATCH
    wanted = torch.autograd.grad(-(counts * log_w).sum(), model.phi)
    torch.testing.assert_close(found.phi, wanted)


def test_scores_of_a_linear_gaussian_model_are_its_closed_form():
    """z ~ N(0, 1), x ~ N(z, 1), and a q that is wider than the posterior N(x/2, 1/2)."""
    torch.manual_seed(5)
    model = from_distributions(lambda x: Normal(x / 2 + 0.3, 1.0), lambda z: Normal(z, 1.0))
    x = torch.randn(BATCH, LATENT).double()
    exact = Normal(0.0, 2**0.5).log_prob(x).sum(1)
    low = repro.log_px(model, x, K=20_000)
    torch.testing.assert_close(low, exact, atol=0.05, rtol=0)
    found = repro.ais(model, x, temperatures=50, chains=11)
    assert ((found.log_px - exact).abs() < 5 * found.spread / math.sqrt(11) + 0.01).all()
    assert found.ess.shape == (BATCH,)


@pytest.mark.parametrize("estimator", ["stl", "drep", "rws"])
def test_at_the_posterior_phi_has_no_gradient_but_that_of_rep(estimator):
    """Of z ~ N(0, 1) and x ~ N(z, 1) it is N(x/2, 1/2): all of the path's gradient is zero."""
    slope, sigma = (torch.tensor(v, dtype=torch.float64).requires_grad_() for v in (0.5, 0.5**0.5))
    model = from_distributions(
        lambda x: Normal(slope * x, sigma), lambda z: Normal(z, 1.0), phi=[slope, sigma], theta=[]
    )
    x = of_seed(5, torch.randn, BATCH, LATENT).double()
    of_phi = {}
    for name in ("rep", estimator):
        of_seed(6, repro.backward, model, x, "piwae", M, K, name)
        of_phi[name] = torch.stack([slope.grad, sigma.grad])
        slope.grad, sigma.grad = None, None
    assert of_phi[estimator].abs().max() < 1e-14
    assert of_phi["rep"].abs().min() > 1e-3


def test_log_px_is_iwaes_bound_whatever_the_chunks(model, x, monkeypatch):
    log_w = of_seed(6, model.log_weights, x, 10).detach()
    whole = log_w.logsumexp(0) - math.log(10)
    torch.testing.assert_close(of_seed(6, repro.log_px, model, x, 10), whole)
    monkeypatch.setattr("repro.own_models.SAMPLES_AT_A_TIME", 3)
    left = iter(log_w)
    same = Altered(model, lambda x, T, still=False: torch.stack([*islice(left, T)]))
    torch.testing.assert_close(repro.log_px(same, x, 10), whole)


def test_snr_is_that_of_the_gradients(model, x):
    found = of_seed(7, repro.snr, model, x, "miwae", M, K, replicates=6)
    torch.manual_seed(7)
    of_phi = [loss_gradients(model, x, "miwae", M, K).phi for _ in range(6)]
    signal, noise = signal_and_noise(
        torch.stack([nn.utils.parameters_to_vector(g) for g in of_phi])
    )
    assert found.phi == pytest.approx(math.sqrt(max(signal, 0) / noise))


def test_a_latent_variable_may_be_one_number():
    """z ~ N(0, 1) and x ~ N(z, 1), so that x ~ N(0, 2)."""
    one = repro.from_distributions(
        lambda x: Normal(x[:, 0] / 2, 0.6), lambda z: Normal(z[..., None], 1.0)
    )
    x = torch.tensor([[0.5], [-1.0]])
    exact = Normal(0.0, 2**0.5).log_prob(x).sum(1)
    assert (repro.ais(one, x, temperatures=50).log_px - exact).abs().max() < 0.2
    assert one.means(x).shape == (2, 1)


def test_the_ratio_of_a_network_without_parameters_is_no_number(model, x):
    found = repro.snr(Altered(model, theta=[]), x, "miwae", M, K, replicates=3)
    assert math.isnan(found.theta)
    assert found.phi > 0


class Prior(nn.Module):
    """A mixture of three normal distributions, whose means are trained."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.randn(3, LATENT))

    def forward(self):
        components = Independent(Normal(self.means, 1.0), 1)
        return MixtureSameFamily(Categorical(torch.ones(3)), components)


def test_a_priors_parameters_are_thetas():
    prior = Prior()
    model = from_distributions(Gaussian(PIXELS, LATENT), Gaussian(LATENT, PIXELS), prior)
    repro.backward(model, torch.zeros(BATCH, PIXELS), method="iwae", M=1, K=K)
    assert prior.means.grad.abs().sum() > 0


def test_images_keep_their_shape():
    """A convolutional network, whose pixels are [channel, row, column]."""
    code, picture = nn.Conv2d(3, LATENT, 4), nn.ConvTranspose2d(LATENT, 3, 4)
    model = from_distributions(
        lambda x: Normal(code(x).flatten(1), 1.0),
        lambda z: Normal(picture(z[..., None, None]), 0.3),
        theta=picture.parameters(),
        phi=code.parameters(),
    )
    images = torch.rand(BATCH, 3, 4, 4)
    assert model.log_weights(images, M).shape == (M, BATCH)
    assert repro.backward(model, images, method="miwae", M=M, K=K, estimator="drep").isfinite()


def test_a_flow_as_q_is_held_still_in_its_density(x):
    flow = zuko.flows.MAF(LATENT, context=PIXELS, transforms=2, hidden_features=(16,)).double()
    model = from_distributions(flow, Gaussian(LATENT, PIXELS).double())
    model.phi = list(flow.parameters())
    z = model.draw(x, M).detach()
    assert not model._log_q_held_still(flow(x), x, z).requires_grad
    used = [p for p in flow.parameters() if p.requires_grad]
    model.phi = used
    assert repro.backward(model, x, method="iwae", M=1, K=K, estimator="drep").isfinite()


class Altered:
    """The model, with something else in it."""

    def __init__(self, model, log_weights=None, **other):
        self.theta, self.phi = model.theta, model.phi
        self.log_weights = log_weights or model.log_weights
        vars(self).update(other)


def test_log_weights_and_parameters_that_are_wrong_are_refused(model, x):
    asked = {"method": "iwae", "M": M, "K": K}
    with pytest.raises(ReproError, match="numbers that are not finite"):
        repro.backward(
            Altered(model, lambda x, T, still=False: torch.zeros(T, BATCH) / 0), x, **asked
        )
    spare = [*model.theta, nn.Parameter(torch.zeros(1))]
    with pytest.raises(ReproError, match="does not depend on theta\\[6\\]"):
        repro.backward(Altered(model, theta=spare), x, **asked)
    with pytest.raises(ReproError, match="in both theta and phi"):
        repro.backward(Altered(model, phi=[*model.phi, model.theta[0]]), x, **asked)


def test_methods_that_cannot_be_meant_are_refused(model, x):
    for method, said in (("ciwae-learned", "finds its own beta"), ("pwae", "did you mean 'piwae'")):
        with pytest.raises(ReproError, match=said):
            repro.backward(model, x, method=method, M=M, K=K)
    with pytest.raises(ReproError, match=r"method is function; give a name or an Objective"):
        repro.backward(model, x, method=METHODS["vae"].theta, M=M, K=K)
    with pytest.raises(ReproError, match="unknown estimator"):
        repro.backward(model, x, method="iwae", M=M, K=K, estimator="dreg2")
    with pytest.raises(ReproError, match="needs a model with draw"):
        repro.ais(Altered(model), x)


def test_numbers_that_cannot_be_meant_are_refused(model, x):
    with pytest.raises(ReproError, match="M = 0 and K = 5"):
        repro.backward(model, x, "iwae", M=0, K=5)
    with pytest.raises(ReproError, match="it is a weight from 0 to 1"):
        repro.backward(model, x, "ciwae", M=1, K=5, beta=2.0)
    with pytest.raises(ReproError, match="log_px of 0 images with K = 5000 needs one of each"):
        repro.log_px(model, x[:0])
    linear = from_distributions(lambda x: Normal(x, 1.0), lambda z: Normal(z, 1.0))
    with pytest.raises(ReproError, match="ais needs a temperature, a chain and an image at least"):
        repro.ais(linear, x, temperatures=0)


class Shift(AffineTransform):
    """z + a number that is trained, which remembers its last z, as planar flows have to."""

    inverts = True

    def __init__(self, cached=True):
        super().__init__(nn.Parameter(torch.tensor(0.3)), 1.0, cache_size=int(cached))

    def _inverse(self, y):
        if not self.inverts:
            raise NotImplementedError
        return super()._inverse(y)


def shifted(shift):
    return from_distributions(
        lambda x: TransformedDistribution(Normal(x[:, :LATENT], 1.0), shift),
        lambda z: Normal(z, 1.0),
        theta=[],
        phi=[shift.loc],
    )


def test_a_flow_that_remembers_z_has_the_gradient_of_one_that_does_not(x):
    asked = {"x": x[:, :LATENT], "method": "iwae", "M": 1, "K": K, "estimator": "drep"}
    found = [of_seed(0, loss_gradients, shifted(Shift(c)), **asked).phi for c in (True, False)]
    assert torch.allclose(found[0][0], found[1][0])


def test_a_flow_without_an_inverse_has_rep_alone(x):
    shift = Shift()
    shift.inverts = False
    asked = {"x": x[:, :LATENT], "method": "iwae", "M": 1, "K": K}
    assert repro.backward(shifted(shift), **asked).isfinite()
    with pytest.raises(ReproError, match=r"no density at a given z .*; take rep"):
        repro.backward(shifted(shift), **asked, estimator="drep")


class VampPrior(nn.Module):
    """A prior that is made of the encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self):
        return self.encoder(torch.zeros(1, PIXELS))


def test_a_part_of_phi_in_the_prior_is_refused_where_q_is_held_still(x):
    encoder, decoder = Gaussian(PIXELS, LATENT), Gaussian(LATENT, PIXELS)
    prior = VampPrior(encoder)
    lists = {"theta": decoder.parameters(), "phi": encoder.parameters()}
    with pytest.raises(ReproError, match=r"p\(x, z\) has a parameter of phi"):
        from_distributions(encoder, decoder, prior, **lists).log_weights(x.float(), M, still=True)
    both = Pair()  # it has phi, and decodes without it
    lists = {"theta": both.decoder.parameters(), "phi": both.encoder.parameters()}
    model = from_distributions(both.encode, both, **lists)
    assert model.log_weights(x.float(), M, still=True).isfinite().all()


class Pair(nn.Module):
    """An encoder and a decoder that are methods of one module."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(PIXELS)
        self.encoder, self.decoder = nn.Linear(PIXELS, LATENT), nn.Linear(LATENT, PIXELS)

    def encode(self, x):
        return Normal(self.encoder(self.norm(x)), 1.0)

    def forward(self, z):
        return Normal(self.decoder(z), 1.0)


class Flat(Distribution):
    """A prior that has a density and no samples."""

    def log_prob(self, z):
        return 0 * z


def test_parameters_that_no_list_would_have_are_refused(x):
    pair = Pair().double()
    with pytest.raises(ReproError, match="encode is a method of a module; give theta and phi"):
        from_distributions(partial(pair.encode), pair)
    prior = Independent(Normal(nn.Parameter(torch.zeros(LATENT)), 1.0), 1)
    with pytest.raises(ReproError, match="the prior has parameters; give theta, or a module"):
        from_distributions(pair.encoder, pair.decoder, prior)
    assert from_distributions(pair.encoder, pair.decoder, Flat(validate_args=False)).prior
    functions = from_distributions(lambda x: pair.encode(x), lambda z: pair(z))
    with pytest.raises(ReproError, match="neither theta nor phi to train"):
        repro.backward(functions, x, method="iwae", M=1, K=K)


def test_a_q_of_all_images_at_once_is_refused(x):
    model = from_distributions(lambda x: Independent(Normal(x, 1.0), 2), lambda z: Normal(z, 1.0))
    with pytest.raises(ReproError, match=r"q has batch_shape \[\] for x of \[7, 11\]"):
        repro.log_px(model, x)


def test_dropout_is_refused_where_q_is_evaluated_twice(x):
    encoder = nn.Sequential(nn.Dropout(0.5), Gaussian(PIXELS, LATENT)).double()
    model = from_distributions(encoder, Gaussian(LATENT, PIXELS).double())
    assert repro.backward(model, x, method="iwae", M=M, K=K).isfinite()
    with pytest.raises(ReproError, match="another q each time"):
        repro.backward(model, x, method="iwae", M=M, K=K, estimator="stl")


def several_straight_through(logits):
    return Independent(OneHotCategoricalStraightThrough(logits=logits[:, None]), 1)


@pytest.mark.parametrize("q", [Categorical, several_straight_through])
def test_a_q_without_reparameterised_samples_is_refused(x, q):
    model = from_distributions(lambda x: q(logits=x), lambda z: Normal(z, 1.0))
    with pytest.raises(ReproError, match=r"Categorical.*, which has no reparameterised samples"):
        model.log_weights(x, M)


def test_a_prior_that_would_be_broadcast_is_refused():
    asked = {"encoder": lambda x: Normal(x, 1.0), "decoder": lambda z: Normal(z, 1.0)}
    for size in (5, 2):
        model = from_distributions(**asked, prior=Normal(torch.zeros(size), 1.0))
        with pytest.raises(ReproError, match=rf"p\(z\) is of \[{size}\], and z of \[1\]"):
            model.log_weights(torch.zeros(BATCH, 1), M)
    wider = from_distributions(**asked, prior=Normal(torch.zeros(1), 1.0))
    assert wider.log_weights(torch.zeros(BATCH, LATENT), M).shape == (M, BATCH)


def test_scores_are_of_evaluation_mode_and_leave_the_model_as_it_was(x):
    norm = nn.BatchNorm1d(PIXELS)
    encoder = nn.Sequential(norm, Gaussian(PIXELS, LATENT)).double()
    model = from_distributions(encoder, Gaussian(LATENT, PIXELS).double())
    repro.log_px(model, x, K=3)
    repro.ais(model, x, temperatures=2, chains=2)
    pair = Pair().double()
    lists = {"theta": pair.decoder.parameters(), "phi": pair.encoder.parameters()}
    repro.log_px(from_distributions(pair.encode, pair.forward, **lists), x, K=3)
    for each in (norm, pair.norm):
        assert not each.running_mean.any()
        assert each.training


def test_ais_of_a_latent_variable_that_is_never_negative_is_refused_or_right():
    """Where distributions check their values, and where they do not."""
    model = from_distributions(lambda x: Normal(0 * x + 0.5, 0.5), lambda z: Normal(z, 1.0))
    x = torch.tensor([[-1.0]])
    model.prior = Exponential(1.0, validate_args=True)
    with pytest.raises(ReproError, match=r"ais fails .*; has z a density at all real numbers\?"):
        repro.ais(model, x, temperatures=5)
    model.prior = Exponential(1.0, validate_args=False)
    torch.manual_seed(8)
    z = torch.linspace(0, 20, 20_001)
    exact = torch.trapezoid((Normal(z, 1.0).log_prob(x) - z).exp(), z).log()
    assert (repro.ais(model, x, temperatures=200).log_px - exact).abs() < 0.3


def test_pixels_that_would_be_broadcast_are_refused(x):
    flat = from_distributions(
        lambda x: Normal(x[:, :2], 1.0), lambda z: Normal(z.sum(-1), 1.0), theta=[], phi=[]
    )
    with pytest.raises(ReproError, match=r"p\(x\|z\) is of \[\d+\], and x of \[\d+, \d+\]"):
        flat.log_weights(x, 3)
