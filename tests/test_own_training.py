"""A model of somebody's own, trained by the commands: as the project's is, to the last number."""

from itertools import product
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Gamma

import repro
from repro import figures, own, tables
from repro.bounds import METHODS
from repro.catalogue import ESTIMATORS
from repro.cli import main
from repro.one_run import OneRun
from repro.records import Archive
from repro.records.archive import METRICS_OF_ALL, read
from repro.training import loop
from repro.words.experiments import plan
from tests.helpers import double_precision, few_digits, in_double

STEPS = 100
PROJECTS = """
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal
from torch.nn.functional import softplus

import repro
from repro.models import Autoencoder
from tests.helpers import SMALL

STATE = Autoencoder(SMALL, [0]).run_state(0)


def layer(name):
    fan_out, fan_in = STATE[name + ".weight"].shape
    made = nn.Linear(fan_in, fan_out)
    made.load_state_dict({part: STATE[name + "." + part] for part in ("weight", "bias")})
    return made


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = layer("encoder.hidden1"), nn.Tanh(), layer("encoder.hidden2"), nn.Tanh()
        self.hidden = nn.Sequential(*hidden)
        self.mu, self.sigma = layer("encoder.mu"), layer("encoder.sigma")

    def forward(self, x):
        h = self.hidden(x)
        return Normal(self.mu(h), softplus(self.sigma(h)))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = layer("decoder.hidden1"), nn.Tanh(), layer("decoder.hidden2"), nn.Tanh()
        self.layers = nn.Sequential(*hidden, layer("decoder.logits"))

    def forward(self, z):
        return Bernoulli(logits=self.layers(z), validate_args=False)


def written_again():
    return repro.from_distributions(Encoder(), Decoder())
"""
CONVOLUTIONS = """
import repro
from torch import nn
from torch.distributions import Normal

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        self.layers = nn.Sequential(*conv, nn.Linear(4 * 6 * 5, 6))

    def forward(self, x):
        mean, log_sigma = self.layers(x).chunk(2, -1)
        return Normal(mean, log_sigma.exp())

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Linear(3, 3 * 12 * 10)

    def forward(self, z):
        return Normal(self.layers(z).view(-1, 3, 12, 10), 0.5)

def colours():
    return repro.from_distributions(Encoder(), Decoder())
"""
BOUND = """
from repro.bounds import log_mean_exp

def tempered(log_w, alpha=0.25):
    return log_mean_exp((1 - alpha) * log_w, (-3, -2)) / (1 - alpha)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a user's files, from which they work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "again.py").write_text(PROJECTS)
    (tmp_path / "conv.py").write_text(CONVOLUTIONS)
    (tmp_path / "bound.py").write_text(BOUND)
    g = np.random.default_rng(0)
    images = g.normal(size=(130, 3, 12, 10))
    np.savez("colours.npz", train=images[:60], test=images[60:], labels=np.zeros(60))
    with mock.patch.dict(METHODS):
        yield tmp_path


FAST = [("piwae", "drep"), ("ciwae-learned", "stl"), ("ciwae-chosen", "rep")]
EVERY = {(method, estimator) for method in METHODS for estimator in ESTIMATORS}
EVERY -= {("vae", "rws")}  # whose bound is not bent
EVERY -= set(product(("ciwae-chosen", "ciwae-chosen-both"), ("stl", "rws")))  # it takes drep
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in sorted(EVERY - {*FAST})]


@pytest.mark.parametrize(("method", "estimator"), [*FAST, *SLOW])
def test_the_projects_network_as_somebodys_own_is_trained_alike(here, small, method, estimator):
    words = {"profile": "smoke", "estimator": estimator, "M": 3, "K": 4, "batch_size": 7}
    digits = few_digits(STEPS * 7)
    with double_precision():
        programs = [
            loop.make(plan(method, model=model, **words), in_double(digits))
            for model in ("reference", "again.py:written_again")
        ]
        for program in programs:
            program.take_steps(STEPS)
    theirs, ours = programs
    torch.testing.assert_close(ours.losses, theirs.losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.beta, theirs.beta, rtol=1e-5, atol=1e-5)
    for mine, its in zip(ours.parameters, theirs.parameters, strict=True):
        assert (mine - its).norm() < 1e-5 * its.norm()


def train_command(results, *more):
    words = ["--model", "conv.py:colours", "--method", "bound.py:tempered", "--alpha", "0.5"]
    words += ["--dataset", "colours.npz", "--profile", "smoke", "--epochs", "3"]
    return ["train", *words, "--results", results, "--device", "cpu", *more]


def the_record(results):
    (record,) = Archive(results).records("smoke")
    return record


def test_own_colours_bound_and_network_train_go_on_and_are_evaluated(here, capsys):
    assert main(train_command("whole")) == 0
    said = capsys.readouterr().out
    assert "values from -" in said
    assert "binarise: no" in said
    assert "labels in colours.npz is ignored" in said
    whole = the_record("whole")
    assert whole.experiment.alpha == 0.5
    assert whole.experiment.binarise == "no"
    assert (whole.path / "model.py").read_text() == CONVOLUTIONS
    assert whole.metrics.keys() >= {"ssim", "active_units", "log_px"}
    assert whole.reconstructions[0].shape == (64, 3, 12, 10)
    shorter = train_command("parts", "--epochs", "2", "--keep-state")
    assert main([*shorter, "--time-limit", "0"]) == 3
    assert main(shorter) == 0
    assert main(train_command("parts", "--keep-state")) == 0
    parts = Archive("parts").get(whole.experiment)
    for name, tensor in whole.weights().items():
        assert torch.equal(tensor, parts.weights()[name])
    assert whole.metrics == parts.metrics
    assert whole.curve.equals(parts.curve)
    capsys.readouterr()
    again = ["evaluate", str(whole.path), "--device", "cpu"]
    files = ["--model", "conv.py:colours", "--dataset", "colours.npz"]
    assert main([*again, *files]) == 0
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert last.startswith("they agree within their errors")
    for line in lines[3:-1]:
        now, recorded = line.split()[1], line.split()[4]
        assert now == recorded


LINEAR = """
import numpy
import torch
from torch import nn
from torch.distributions import Normal


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 2), nn.Linear(2, 5)
        self.theta = list(self.decoder.parameters())
        self.phi = list(self.encoder.parameters())
        INIT

    def log_weights(self, x, T, still=False):
        BEGIN
        mean = self.encoder(x)
        z = Normal(mean, 1.0).rsample((T,))
        log_q = Normal(mean.detach() if still else mean, 1.0).log_prob(z).sum(-1)
        log_p = Normal(self.decoder(z), 1.0).log_prob(x).sum(-1)
        log_w = log_p + Normal(0.0, 1.0).log_prob(z).sum(-1) - log_q
        END
        return log_w

    MORE


class Sized(Linear):
    def __init__(self, size):
        super().__init__()


def nothing():
    return None


made = None
made = Linear()


def shared():
    return made


def kind():
    return Linear


number = 3
"""


UNDRAWN = LINEAR.replace("rsample", "sample")
HEEDLESS = UNDRAWN.replace("mean.detach() if still else mean", "mean")
COUNTING = {  # a buffer that changes in training
    "init": "self.register_buffer('steps', torch.zeros(()))",
    "begin": "self.steps += self.training",
    "end": "log_w = log_w + self.steps",
}


def trained_linear(here, name="Linear", text=LINEAR, **parts):
    """The exit status of training a model whose text has these parts."""
    for part in ("init", "begin", "end", "more"):
        text = text.replace(part.upper(), parts.get(part, "pass"))
    (here / "linear.py").write_text(text)
    g = np.random.default_rng(0)
    np.savez("five.npz", train=g.normal(size=(60, 5)), test=g.normal(size=(70, 5)))
    words = ["--model", f"linear.py:{name}", "--dataset", "five.npz", "--method", "iwae"]
    words += [*parts.get("words", []), "--profile", "smoke", "--epochs", "1"]
    return main(["train", *words, "--results", "results", "--device", "cpu"])


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"name": "Liner"}, "unknown model 'Liner'; did you mean 'Linear'?"),
        ({"name": ""}, "unknown model ''; there are Linear, Sized, nothing, made, shared, kind"),
        ({"name": "number"}, "unknown model 'number'"),
        ({"name": "made"}, "made is a model itself; name its class, or a function that makes it"),
        ({"name": "Sized"}, "the model sized fails (TypeError: Sized.__init__() missing 1"),
        ({"name": "nothing"}, "nothing gives NoneType; it must give an nn.Module"),
        ({"text": "def f(:"}, "linear.py fails (SyntaxError: invalid syntax (linear.py, line 1))"),
        ({"text": "1 / 0"}, "linear.py fails (ZeroDivisionError: division by zero, linear.py line"),
        ({"text": "raise SystemExit(0)"}, "linear.py fails (SystemExit: 0, linear.py line 1)"),
        ({"init": "del self.theta"}, "linear has no theta; a model has log_weights(x, T, still="),
        ({"init": "self.theta = None"}, "theta is NoneType; make it a list of parameters"),
        ({"init": "self.phi = self.encoder"}, "phi is Linear; make it a list of parameters"),
        ({"init": "self.theta = self.parameters()"}, "theta is generator; make it a list of"),
        ({"init": "self.theta *= 2"}, "theta has a parameter twice; list each once"),
        ({"init": "self.theta = self.theta + self.phi"}, "a parameter is in both theta and phi"),
        ({"init": "self.theta = self.phi = []"}, "there is neither theta nor phi to train"),
        ({"init": "self.decoder.requires_grad_(False)"}, "theta[0] has requires_grad off; leave"),
        ({"init": "self.double()"}, "has parameters of torch.float64; make them torch.float32"),
        (
            {"init": "self.theta += [torch.zeros(1, requires_grad=True)]"},
            "linear's theta[2] is no parameter of the module; keep it in a module",
        ),
        (
            {"init": "self.more = nn.Linear(2, 2); self.theta += list(self.more.parameters())"},
            "log w does not depend on theta[2]; leave it out",
        ),
        ({"begin": "x = x[:, :3]"}, "linear.log_weights fails (RuntimeError: mat1 and mat2 shapes"),
        ({"begin": "1 / 0"}, "linear.log_weights fails (ZeroDivisionError: division by zero, line"),
        ({"end": "log_w = log_w.T"}, "log_weights gives [20, 64]; it must be [T, batch], [64, 20]"),
        ({"end": "log_w = log_w.sum()"}, "log_weights gives []; it must be [T, batch]"),
        ({"end": "log_w = log_w * float('nan')"}, "log_weights gives numbers that are not finite"),
        ({"end": "log_w = log_w.detach()"}, "log_weights gives numbers without a gradient; detach"),
        ({"end": "log_w = [log_w]"}, "linear.log_weights gives list, no tensor"),
        ({"more": "def reconstruct(self, x): return x[:, :2]"}, "reconstruct gives [70, 2] of"),
        ({"more": "def reconstruct(self, x): return x > 0"}, "gives [70, 5] of torch.bool of [70"),
        ({"text": UNDRAWN}, "z of linear does not depend on phi; draw it with rsample, and hold"),
        ({"text": UNDRAWN, "words": ["--estimator", "drep"]}, "not depend on phi; draw it with"),
        ({"init": "self.register_buffer('b', torch.zeros(1).expand(5))"}, "setting the tensors of"),
        (COUNTING | {"end": "log_w = log_w - log_w.mean(1, keepdim=True)"}, "depends on the other"),
        ({"begin": "torch.manual_seed(5)"}, "gives the same numbers whatever the seed; draw z"),
        ({"end": "log_w = log_w - log_w.mean(1, keepdim=True)"}, "depends on the other images of"),
        ({"more": "def reconstruct(self, x): 1 / 0"}, "linear fails (ZeroDivisionError: division"),
        ({"name": "kind"}, "kind gives type; it must give an nn.Module"),
        ({"begin": "while True: pass"}, "a trial of linear has not returned after 2 s"),
        ({"init": "while made: pass"}, "the model linear has not returned after 2 s"),
        ({"end": "log_w = log_w.to(torch.complex64)"}, "log_weights gives torch.complex64"),
        ({"end": "log_w = log_w.detach() + 0 * log_w"}, "network is zero on the first images"),
        ({"more": "def means(self, x): return x.numpy()"}, "linear.means gives ndarray; give a"),
        ({"more": "def reconstruct(self, x): return x.numpy()"}, "reconstruct gives ndarray"),
        ({"more": "def means(self, x): return x.sum()"}, "linear.means gives [] of torch.float32"),
        ({"more": "def means(self, x): return [x]"}, "linear.means gives list; give a tensor ["),
        (
            {"begin": "x = x + torch.ones(5, requires_grad=True)"},
            "log_weights of linear depends on a parameter that is not the module's; keep it in",
        ),
        ({"begin": "x -= 0.5"}, "linear changes x in place; make a new tensor instead"),
        ({"init": "self.more = nn.LazyLinear(2)"}, "linear has lazy layers (more.weight); give"),
        ({"begin": "self.register_buffer('ema', x.mean())"}, "makes a buffer or changes its shape"),
        ({"begin": "still = False", "words": ["--estimator", "drep"]}, "takes no notice of still"),
        (
            {"end": "log_w = log_w + 100 * still", "words": ["--estimator", "stl"]},
            "linear.log_weights gives other numbers with still (dropout?)",
        ),
        ({"name": "shared"}, "shared gives the same model twice; make a new one at each call"),
        ({"words": ["--hidden", "9"]}, "hidden is of the project's networks; leave it out of"),
        ({"words": ["--init", "burda"]}, "init is of the project's networks"),
        ({"words": ["--decoder", "iwae"]}, "decoder is of the project's networks"),
        ({"words": ["--precision", "bf16"]}, "precision bf16 is of the project's networks"),
        ({"words": ["--milestones", "gradients"]}, "gradients are measured in the project's netw"),
        ({"words": ["--binarise", "fresh"]}, "and pixels are binarised from 0 to 1; bring them"),
        ({"words": ["--batch-size", "99"]}, "batch_size is 99, and five-"),
        ({"words": ["--weights", "nowhere"]}, "there is no record with weights in nowhere"),
    ],
)
def test_a_model_that_is_none_is_one_line_before_anything_is_trained(
    here, capsys, monkeypatch, parts, line
):
    if "returned" in line:
        monkeypatch.setattr("repro.own_code.PATIENCE", 2)
    assert trained_linear(here, **parts) == 2
    said = capsys.readouterr().err
    assert line in said
    assert len(said.splitlines()) == 1
    assert not list((here / "results").rglob("*.json"))


@pytest.mark.parametrize("estimator", ["rep", "drep"])
def test_a_buffer_that_changes_in_training_brings_no_remark(here, capsys, estimator):
    assert trained_linear(here, **COUNTING, words=["--estimator", estimator]) == 0
    said = capsys.readouterr().out
    assert "the second time" not in said
    assert "as its gradient says" not in said


@pytest.mark.parametrize(
    ("parts", "remark"),
    [
        ({"init": "self.theta = self.theta[:1]"}, "(decoder.bias) in neither theta nor phi: not"),
        ({"end": "log_w = log_w + numpy.random.rand()"}, "linear gives other numbers the second"),
        ({"text": HEEDLESS}, "log w of linear does not change with phi as its gradient says"),
    ],
)
def test_a_model_that_may_not_be_what_is_meant_is_remarked_on(here, capsys, parts, remark):
    assert trained_linear(here, **parts) == 0
    assert remark in capsys.readouterr().out


class Gammas(nn.Linear):
    """Gamma distributions, whose sampler rejects some numbers."""

    def forward(self, x):
        return Gamma(super().forward(x).exp(), 1.0)


def test_rejected_numbers_are_not_taken_for_mixed_images():
    torch.manual_seed(0)
    model = repro.from_distributions(Gammas(5, 2), Gammas(2, 5), prior=Gamma(1.0, 1.0))
    x = torch.rand(20, 5)
    assert OneRun(model, "gammas").tried(x, x, 8, still=False) == []


def test_a_record_of_an_own_model_is_read_without_its_file(here, monkeypatch, capsys):
    assert trained_linear(here, end="log_w = log_w.double()") == 0
    record = the_record("results")
    assert record.metrics.keys() == set(METRICS_OF_ALL)
    assert record.reconstructions is None
    monkeypatch.setattr(own, "_sources", {})
    assert "--model FILE.py:linear" in record.experiment.command
    assert "--model FILE.py:Linear" in read(record.path).experiment.command, "as its text has it"
    tables.metrics([record])
    figures.run_curves([record])
    figures.run_grids([record])
    evaluate = ["evaluate", str(record.path), "--device", "cpu"]
    assert main([*evaluate, "--model", "conv.py:colours"]) == 2
    assert "conv.py:colours is not the model of iwae-M1-K64" in capsys.readouterr().err
    monkeypatch.setattr(own, "_models", {})
    assert main(evaluate) == 2
    assert "is somebody's own model; name its file, --model FILE.py" in capsys.readouterr().err


def test_buffers_of_any_kind_are_kept_and_a_model_without_phi_is_trained(here):
    """A mask with infinities, one that is not contiguous; and theta alone."""
    mask = "self.register_buffer('mask', torch.full((3, 2), float('-inf')).T)"
    parts = {"init": mask + "; self.phi = []", "begin": "still = False", "end": "pass"}
    assert trained_linear(here, **parts) == 0
    record = the_record("results")
    model = repro.load_model(record.path, model="linear.py:Linear")
    assert model.mask.shape == (2, 3)
    assert not model.training
    x = torch.zeros(7, 5)
    assert torch.equal(model.encoder(x), repro.load_model(record.path).encoder(x))


def test_a_module_that_a_model_imports_late_is_refused(here, capsys):
    (here / "late_part.py").write_text("number = 0.0\n")
    late = "import importlib; x = x + importlib.import_module('late_part').number"
    assert trained_linear(here, begin=late) == 2
    assert "imports late_part while it is used" in capsys.readouterr().err


def test_a_step_may_be_of_one_image(here):
    assert trained_linear(here, words=["--batch-size", "1"]) == 0


def test_two_names_of_a_file_and_two_splits_of_images_have_records_of_their_own(here):
    (here / "two.py").write_text("def Vae():\n    pass\n\n\ndef vae():\n    pass\n")
    assert own.model_in("two.py:Vae") != own.model_in("two.py:vae")
    images = np.random.default_rng(0).random((200, 5))
    names = []
    for split in (80, 100):
        np.savez("split.npz", train=images[:split], test=images[split:])
        names.append(own.dataset_in("split.npz"))
    assert names[0] != names[1]


def test_a_likelihood_without_a_mean_has_no_reconstructions(here):
    cauchy = LINEAR.replace("MORE", "def reconstruct(self, x): return x * float('nan')")
    assert trained_linear(here, text=cauchy) == 0
    assert "ssim" not in the_record("results").metrics


def test_the_projects_networks_take_images_that_are_no_pictures(here):
    g = np.random.default_rng(0)
    np.savez("ten.npz", train=g.random((60, 10)), test=g.random((70, 10)))
    words = ["--dataset", "ten.npz", "--hidden", "4", "--latent", "2", "--method", "vae"]
    assert main(["train", *words, "--profile", "smoke", "--epochs", "1", "--results", "r"]) == 0
    assert the_record("r").metrics.keys() == {*METRICS_OF_ALL, "active_units"}
