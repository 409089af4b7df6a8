"""An adapter that makes a user's own model a stack of one run, for training and scores.

Images and log-weights have a leading axis for the run, whose length is 1.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from repro import ReproError, plural
from repro.estimators import parameters_behind
from repro.models import Preparation, eager, set_tensors
from repro.own_code import users_code
from repro.own_models import (
    checked_log_weights,
    evaluating,
    gradients_of,
    parameter_lists,
    pulled_back,
)
from repro.randomness import Streams

SMALL_CHANGE = 1e-3  # of the sum of log w, far above the errors of rounding


class NoPathError(ReproError):
    """An error of a model whose z was drawn without its gradient."""


class OneRun(nn.Module):
    """A user's ``own_models.LatentModel`` as a ``models.StackedModel`` of one run.

    ``called`` names it in messages. ``binarises`` is False if it takes images as they are. The
    model draws from PyTorch's global generator, which is set to the run's stream meanwhile. Raises
    ReproError if it is no ``LatentModel``.
    """

    def __init__(self, model: nn.Module, called: str, binarises: bool = True):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ReproError(f"{called} gives {type(model).__name__}; it must give an nn.Module")
        lacking = [n for n in ("log_weights", "theta", "phi") if not hasattr(model, n)]
        if lacking:
            raise ReproError(
                f"{called} has no {lacking[0]}; a model has log_weights(x, T, still=False) and the "
                "lists of parameters theta and phi"
            )
        self.model = model
        self.called = called
        self.binarises = binarises
        self.prepare: Preparation = eager
        self._check_parameters()

    def _check_parameters(self) -> None:
        theta, phi = parameter_lists(self.model)
        mine = {id(p) for p in self.model.parameters()}
        for name, parameters in (("theta", theta), ("phi", phi)):
            strange = [number for number, p in enumerate(parameters) if id(p) not in mine]
            if strange:
                raise ReproError(
                    f"{self.called}'s {name}[{strange[0]}] is no parameter of the module; keep it "
                    "in a module, so that records have it"
                )
        wanted = torch.get_default_dtype()
        other = [p.dtype for p in theta + phi if p.dtype != wanted]
        if other:
            raise ReproError(f"{self.called} has parameters of {other[0]}; make them {wanted}")

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        return next(self.model.parameters()).device

    @property
    def size(self) -> str:
        """A line of text: the model's name, and how many numbers theta and phi hold."""
        theta, phi = (_numbers_in(part) for part in parameter_lists(self.model))
        return f"{self.called}: {theta:,} numbers in theta, {phi:,} in phi"

    @property
    def remarks(self) -> list[str]:
        """A remark on parameters that are not trained, if there are any."""
        theta, phi = parameter_lists(self.model)
        trained = {id(p) for p in theta + phi}
        fixed = [n for n, p in self.model.named_parameters() if id(p) not in trained]
        if not fixed:
            return []
        return [
            f"{plural(len(fixed), 'parameter')} of {self.called} ({fixed[0]}) in neither theta nor "
            "phi: not trained"
        ]

    def tried(self, x: Tensor, scored: Tensor, T: int, still: bool) -> list[str]:
        """Try the model on a batch x and on images ``scored``, both [n, ...]; return remarks.

        It is used as training and scores use it. Raises ReproError, one line, if it fails.
        """
        state = self.run_state(0)
        kept = x.clone()
        remarks = []
        first, second = (self._tried_log_weights(x, T, still, state) for _ in range(2))
        if still:
            self._check_still(self._tried_log_weights(x, T, False, state), first)
        else:
            remarks += self._remarks_on_path(x, T, state, first)
        with torch.no_grad():
            for images in (scored, scored[:1]):
                self.means(images[None])
                self.reconstruct(images[None], Streams([0], "trial"))
            self.log_weights(x[None], 1, T, Streams([0], "trial"))
        if not torch.equal(x, kept):
            raise ReproError(f"{self.called} changes x in place; make a new tensor instead")
        self._check_shapes(state)
        if torch.equal(first[0], second[0]):
            self._check_draws(x, T)
            return remarks
        return [
            f"{self.called} gives other numbers the second time (random numbers that are not "
            "PyTorch's?): a training that is stopped will not go on to the same end"
        ]

    def _check_shapes(self, state: dict[str, Tensor]) -> None:
        """Raise ReproError if parameters and buffers have other names or shapes than ``state``."""
        now = {name: tensor.shape for name, tensor in self._tensors.items()}
        if now != {name: tensor.shape for name, tensor in state.items()}:
            raise ReproError(
                f"{self.called} makes a buffer or changes its shape while it is used, so that no "
                "record can hold it; register it at its full size in __init__"
            )

    def _remarks_on_path(
        self, x: Tensor, T: int, state: dict[str, Tensor], tried: tuple[Tensor, list[Tensor]]
    ) -> list[str]:
        """A remark if phi seems not to act through z; NoPathError if it certainly does not.

        It is certain where q can be held still. Where it cannot, slopes are compared.
        """
        try:
            _, held = self._tried_log_weights(x, T, True, state)
        except NoPathError:
            raise
        except ReproError:
            held = tried[1]
        takes_no_notice = all(map(torch.equal, tried[1], held))
        if not takes_no_notice or self._slope_is_the_gradient(x, T, state, tried):
            return []
        return [
            f"log w of {self.called} does not change with phi as its gradient says: draw z with "
            "rsample, unless you mean an estimator of your own"
        ]

    def _slope_is_the_gradient(
        self, x: Tensor, T: int, state: dict[str, Tensor], tried: tuple[Tensor, list[Tensor]]
    ) -> bool:
        """True if log w changes along phi's gradient as that says, to half of the change.

        It does not if z is drawn without its gradient. True, too, if there is nothing to compare.
        """
        log_w, at_phi = tried
        squared = sum(slope.double().square().sum().item() for slope in at_phi)
        if not squared:
            return True
        expected = SMALL_CHANGE * log_w.double().abs().sum().item()
        step = expected / squared
        try:
            after = self._sum_after(step / 2, x, T, state, at_phi)
            before = self._sum_after(-step / 2, x, T, state, at_phi)
        except ReproError:  # log w is not finite there
            return True
        finally:
            self.load_run_state(0, state)
        return abs(after - before - expected) < expected / 2

    def _sum_after(
        self, step: float, x: Tensor, T: int, state: dict[str, Tensor], at_phi: list[Tensor]
    ) -> float:
        """The sum of log w at the trial's random numbers after a step of phi along ``at_phi``."""
        self.load_run_state(0, state)
        _, phi = parameter_lists(self.model)
        with torch.no_grad():
            for parameter, slope in zip(phi, at_phi, strict=True):
                parameter.add_(slope, alpha=step)
        log_w = self.differentiable_log_weights(x, T, False, Streams([0], "trial"))
        return log_w.double().sum().item()

    def _tried_log_weights(
        self, x: Tensor, T: int, still: bool, state: dict[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Log w at the trial's random numbers and ``state``, and its sum's gradient at phi."""
        self._check_shapes(state)
        with users_code(f"setting the tensors of {self.called}"):
            self.load_run_state(0, state)
        theta, phi = parameter_lists(self.model)
        log_w = self.differentiable_log_weights(x, T, still, Streams([0], "trial"))
        mine = {id(p) for p in self.model.parameters()}
        if any(id(p) not in mine for p in parameters_behind(log_w)):
            raise ReproError(
                f"log_weights of {self.called} depends on a parameter that is not the module's; "
                "keep it in the module"
            )
        with users_code(f"the gradient of {self.called}.log_weights"):
            ones = torch.ones_like(log_w)
            if still and phi and log_w.requires_grad:
                paths = gradients_of(log_w, phi, ones)
                if all(path is None for path in paths):
                    raise NoPathError(
                        f"with still, z of {self.called} does not depend on phi; draw it with "
                        "rsample, and hold q still in log q alone"
                    )
            _, at_phi = pulled_back(log_w, theta, phi, ones, ones)
        return log_w.detach(), at_phi

    def _check_draws(self, x: Tensor, T: int) -> None:
        """Raise ReproError if log w does not follow the random stream, or mixes images.

        The last image is replaced, and the first sample compared, since those that come later may
        have other random numbers: a gamma's sampler takes as many as an image needs.
        """
        other = torch.cat([x[:-1], x[:1]])
        with torch.no_grad():
            usual, _ = self.log_weights(x[None], 1, T, Streams([0], "trial"))
            redrawn, _ = self.log_weights(x[None], 1, T, Streams([1], "trial"))
            beside, _ = self.log_weights(other[None], 1, T, Streams([0], "trial"))
        if torch.equal(usual, redrawn):
            raise ReproError(
                f"{self.called}.log_weights gives the same numbers whatever the seed; draw z from "
                "PyTorch's generator, and do not seed it"
            )
        apart = (usual[0, 0, 0, :-1], beside[0, 0, 0, :-1])
        if not torch.allclose(*apart, rtol=1e-3, atol=1e-3):
            raise ReproError(
                f"{self.called}.log_weights of an image depends on the other images of its batch; "
                "let each be alone"
            )

    def _check_still(
        self, free: tuple[Tensor, list[Tensor]], held: tuple[Tensor, list[Tensor]]
    ) -> None:
        """Raise ReproError if ``still`` changes log w, or does not change its gradient at phi."""
        at_free, at_held = free[1], held[1]
        if not torch.allclose(free[0], held[0], rtol=1e-3, atol=1e-3):
            raise ReproError(
                f"{self.called}.log_weights gives other numbers with still (dropout?), so that the "
                "estimator would be wrong; take rep"
            )
        if at_free and all(map(torch.equal, at_free, at_held)):
            raise ReproError(
                f"{self.called}.log_weights takes no notice of still; hold q's own parameters "
                "still in log q, or take rep"
            )

    def noise(self, streams: Streams) -> Streams:
        """Return ``streams``, which is the ``noise`` argument of the methods below."""
        return streams

    def log_weights(self, x: Tensor, M: int, K: int, noise: Streams) -> tuple[Tensor, Tensor]:
        """Log w of M K fresh samples: x [1, batch, ...] -> [1, M, K, batch], the same twice."""
        with self._scored(noise):
            log_w = self.model.log_weights(x[0], M * K)
        log_w = self._checked(log_w, M * K, x[0]).unflatten(0, (M, K))[None]
        return log_w, log_w

    def differentiable_log_weights(self, x: Tensor, T: int, still: bool, noise: Streams) -> Tensor:
        """Log w with its graph, for a training step: x [batch, ...] -> [T, batch]."""
        log_weights = self.prepare(self.model.log_weights)
        with users_code(f"{self.called}.log_weights"), noise.as_ambient(), torch.enable_grad():
            log_w = self._checked(log_weights(x, T, still=still), T, x)
            return log_w.to(torch.get_default_dtype())

    def _checked(self, log_w: Tensor, T: int, x: Tensor) -> Tensor:
        if not isinstance(log_w, Tensor):
            raise ReproError(f"{self.called}.log_weights gives {type(log_w).__name__}, no tensor")
        return checked_log_weights(log_w, T, x)

    def means(self, x: Tensor) -> Tensor | None:
        """The mean of q(z|x): x [1, n, ...] -> [1, n, latent]; None if the model has no means."""
        found = None
        with users_code(f"{self.called}.means"), evaluating(self.model):
            if hasattr(self.model, "means"):
                found = self.model.means(x[0])
        is_one = isinstance(found, Tensor) and found.dim() == 2 and len(found) == x.shape[1]
        if not is_one and found is not None:
            raise ReproError(
                f"{self.called}.means gives {_in_words(found)}; give a tensor [batch, latent]"
            )
        return None if found is None else found[None]

    def reconstruct(self, x: Tensor, noise: Streams) -> Tensor | None:
        """Reconstructions of x [1, n, ...], of the same shape; None if the model makes none."""
        found = None
        with self._scored(noise):
            if hasattr(self.model, "reconstruct"):
                found = self.model.reconstruct(x[0])
        is_one = isinstance(found, Tensor) and found.shape == x.shape[1:]
        is_one = is_one and found.is_floating_point()
        if not is_one and found is not None:
            raise ReproError(
                f"{self.called}.reconstruct gives {_in_words(found)} of {[*x.shape[1:]]}; they "
                "must have one shape, and real numbers"
            )
        return None if found is None else found[None]

    @contextlib.contextmanager
    def _scored(self, noise: Streams) -> Iterator[None]:
        """Evaluate with a stream's random numbers."""
        with users_code(self.called), evaluating(self.model), noise.as_ambient():
            yield

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, each once."""
        return dict([*self.model.named_parameters(), *self.model.named_buffers()])

    def run_state(self, run: int) -> dict[str, Tensor]:
        """The model's parameters and buffers, by name; ``run`` is 0."""
        assert run == 0
        whole = torch.contiguous_format
        tensors = {name: tensor.detach().cpu() for name, tensor in self._tensors.items()}
        return {name: tensor.clone(memory_format=whole) for name, tensor in tensors.items()}

    def load_run_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Set parameters and buffers to ``state``; ReproError if not finite or another model's."""
        assert run == 0
        set_tensors(self._tensors, state, dict(self.model.named_buffers()))


def _in_words(found: object) -> str:
    """The shape and type of a tensor, or what else it is."""
    is_tensor = isinstance(found, Tensor)
    return f"{[*found.shape]} of {found.dtype}" if is_tensor else type(found).__name__


def _numbers_in(parameters: list[Tensor]) -> int:
    return sum(p.numel() for p in parameters)
