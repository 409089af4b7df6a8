"""The trial of a machine finds what is wrong with an engine, and says what to use."""

import pytest
import torch
from click.testing import CliRunner

from repro.cli import repro_command
from repro.models import Autoencoder
from repro.ops import machine
from repro.ops.machine import Choice, Finding
from repro.training import loop
from repro.training.engines import ENGINES
from repro.training.program import Program
from tests.helpers import SMALL


def faults(found):
    return {f.what for f in found if isinstance(f, Finding) and not f.ok}


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    """Small weights in place of an archive's."""
    weights = Autoencoder(SMALL, [3]).run_state(0)
    monkeypatch.setattr(machine, "_trained_weights", lambda: weights)


def test_the_eager_engine_passes_and_is_a_choice(small):
    found = list(machine.findings_on_engine("eager", "float32", "cpu"))
    assert faults(found) == set()
    assert isinstance(found[-1], Choice)
    assert len(found) == 8


def test_a_wrong_gradient_is_a_fault_and_no_choice(small, monkeypatch):
    at_encoder = Autoencoder.encoder_gradient

    def wrong(self, forward, *rest):
        of_encoder = at_encoder(self, forward, *rest)
        return of_encoder * (1.001 if forward.x.dtype == torch.float32 else 1)

    monkeypatch.setattr(Autoencoder, "encoder_gradient", wrong)
    found = list(machine.findings_on_engine("eager", "float32", "cpu"))
    assert faults(found) == {"gradient against float64", "with trained weights"}
    assert not any(isinstance(f, Choice) for f in found)


def test_a_state_that_is_not_set_back_whole_is_a_fault(small, monkeypatch):
    set_state = Program.set_state

    def without_noise(self, saved, streams=True):
        set_state(self, saved, streams=False)

    monkeypatch.setattr(Program, "set_state", without_noise)
    found = faults(machine.findings_on_engine("eager", "float32", "cpu"))
    assert found == {"set back and replayed", "saved and resumed"}


def test_noise_that_repeats_is_a_fault(small, monkeypatch):
    def frozen(*words):
        program = loop.make(*words)
        program.step = lambda: program.losses.fill_(1.0)
        return program

    monkeypatch.setattr(machine, "make", frozen)
    assert "noise" in faults([next(machine.findings_on_engine("eager", "float32", "cpu"))])


def test_an_engine_whose_process_fails_is_a_fault():
    (found,) = machine._in_own_process("cpu", ("steam", "float32"))
    assert not found.ok
    assert found.found.startswith("failed: KeyError")


def test_each_device_has_its_trials():
    of_cpu = machine.trials("cpu")
    assert ("compiled", "bf16") in of_cpu
    assert {engine for engine, _ in of_cpu} == {*ENGINES} - {"graph"}
    of_cuda = machine.trials("cuda")
    assert ("compiled-graph", "tf32") in of_cuda
    assert ("fused-graph", "fp16") in of_cuda
    assert {engine for engine, precision in of_cuda if precision != "float32"} == {
        "compiled-graph",
        "fused-graph",
    }


def test_the_simplest_of_the_fastest_is_advised():
    choices = [
        Choice("eager", "float32", 3.0),
        Choice("compiled", "float32", 1.01),
        Choice("compiled-graph", "float32", 1.0),
        Choice("compiled-graph", "bf16", 0.5),
    ]
    assert machine.advice(choices) == [
        "use --engine compiled --precision float32: 1.01 ms a step",
        "or, faster, --engine compiled-graph --precision bf16: 0.50 ms a step",
    ]
    assert machine.advice(choices[3:]) == ["no engine passed in float32"]


@pytest.mark.parametrize("ok", [True, False])
def test_the_command_fails_if_something_is_at_fault(monkeypatch, ok):
    found = [Finding("eager, float32", "noise", "shared", ok), Choice("eager", "float32", 2.0)]
    monkeypatch.setattr(machine, "tried", lambda device, data: iter(found))
    done = CliRunner().invoke(repro_command, ["check", "--device", "cpu"], standalone_mode=False)
    assert done.return_value == (0 if ok else 1)
    assert ("FAULT" in done.output) == (not ok)
    assert "use --engine eager --precision float32: 2.00 ms a step" in done.output
    assert ("nothing is at fault" if ok else "1 fault found") in done.output


@pytest.mark.slow
def test_a_terminated_training_is_resumed():
    assert faults(machine.findings_on_command("cpu")) == set()


def test_the_machine_is_described():
    found = [*machine.findings_on_machine("cpu"), *machine.findings_on_data(None)]
    assert faults(found) == set()
    assert ("data", "digits") in {(f.part, f.what) for f in found}
