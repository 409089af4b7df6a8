"""Encoders that are trained alone, for a decoder that is held as the report released it."""

from dataclasses import replace

import pytest
import torch

from repro import ReproError
from repro.catalogue import MODELS
from repro.models import Autoencoder
from repro.training import loop, run
from repro.training.program import Program
from repro.words.experiments import plan
from tests.helpers import few_digits

pytestmark = pytest.mark.usefixtures("small")


def runs_with(decoder, method, **words):
    """Smoke-size runs; ``plan`` itself would say that the small digits have no released weights."""
    return [replace(e, decoder=decoder) for e in plan(method, profile="smoke", **words)]


def test_an_encoder_is_trained_for_a_decoder_that_is_held(tmp_path):
    """Both runs keep the decoder that they are given, bit for bit, also when they are resumed."""
    runs = runs_with("iwae", "iwae,miwae", epochs=2)
    held = Autoencoder(MODELS["reference"], [7]).run_state(0)
    state = tmp_path / "state.pt"
    steps = iter(range(30))
    first = loop.fit(runs, few_digits(500), state, decoder=held, stop=lambda: next(steps, 30) == 29)
    assert not first.finished
    fit = loop.fit(runs, few_digits(500), state, decoder=held)
    whole = loop.fit(runs, few_digits(500), decoder=held)
    for program, of_whole in zip(fit.programs, whole.programs, strict=True):
        after = program.model.run_state(0)
        for name, tensor in after.items():
            assert torch.equal(tensor, of_whole.model.run_state(0)[name])
            assert torch.equal(tensor, held[name]) == name.startswith("decoder")


def test_an_encoders_gradient_is_the_same_whether_or_not_the_decoder_is_held():
    own, held = (
        Program(runs_with(decoder, "miwae,ciwae-learned", estimator="drep"), few_digits(500))
        for decoder in ("own", "vae")
    )
    x = own.images[None, :20].expand(2, -1, -1).round()
    ours, theirs = own.gradients(x), held.gradients(x)
    assert theirs.decoder is None
    assert torch.equal(ours.encoder, theirs.encoder)


def test_the_run_holds_the_released_decoder(monkeypatch, tmp_path):
    asked = []

    def weights(e, data):
        asked.append((e.method, e.setting))
        return Autoencoder(MODELS["reference"], [3]).run_state(0)

    digits = few_digits(500)
    monkeypatch.setattr(run.released_files, "released_weights", weights)
    monkeypatch.setattr(run.datasets, "load", lambda name, data=None: digits)
    runs = plan("vae", "mnist", epochs=1, profile="short", decoder="piwae")
    (record,) = run.train(runs, results=tmp_path, device="cpu", engine="eager")
    assert asked == [("piwae", "mnist-reference")]
    assert record.experiment.name == "vae-M64-K1-seed0-epochs1-decoder-piwae"
    assert "--decoder piwae" in record.experiment.command
    expected = Autoencoder(MODELS["reference"], [3]).run_state(0)["decoder.logits.weight"]
    assert torch.equal(record.weights()["decoder.logits.weight"], expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"decoder": "iwea"}, "did you mean 'iwae'"),
        ({"decoder": "iwae", "dataset": "digits"}, "no decoder was released for digits-reference"),
        ({"decoder": "iwae", "dataset": "omniglot", "model": "larger"}, "no decoder was released"),
        ({"decoder": "iwae", "protocol": "released"}, "leave the decoder out"),
    ],
)
def test_a_decoder_that_there_is_not_is_refused(words, said):
    with pytest.raises(ReproError, match=said):
        plan("piwae", **({"dataset": "mnist", "profile": "short"} | words))
