"""Stacked runs as one program, and its step.

A step binarises, encodes, samples, decodes, forms the log-weights, takes each run's pair of bounds, goes back once for
both networks and updates with Adam.
"""

from __future__ import annotations

import bisect
import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from repro.bounds import METHODS
from repro.data import Dataset, Streams
from repro.experiments import MILESTONES, Experiment
from repro.likelihood import compiled, eager
from repro.models import ADAM_EPS, MODELS, Autoencoder

ENGINES = ("eager", "compiled", "graph", "compiled-graph", "triton-graph")  # each falls back to a simpler one where it cannot be had


def learning_rate(epoch: int) -> float:
    """1e-3 10^(-i/7), held for 3^i epochs, i = 0 ... 7; ``epoch`` counts from 0 (Burda et al., sec. 5)."""
    return 1e-3 * 10 ** (-bisect.bisect_right(MILESTONES[:-1], epoch) / 7)


class Program:
    """Stacked runs, their optimiser and their random numbers; ``step`` advances all of them.

    ``engine``: ``compiled`` runs torch.compile's kernels, ``triton`` our own for the decoder's last layer as well, ``graph``
    replays the whole step as one CUDA graph. All that a step reads or writes stays at one place in memory; ``state`` names it.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        dataset: Dataset,
        device: str | torch.device = "cpu",
        engine: str = "eager",
    ):
        self.experiments, first = list(experiments), experiments[0]
        self.device, self.batch_size, self.T = torch.device(device), first.batch_size, first.M * first.K
        seeds, cuda = [e.seed for e in experiments], self.device.type == "cuda"
        self.model = Autoencoder(MODELS[first.model], seeds, first.init, dataset.train.mean(0)).to(self.device)
        self.model.how = eager if engine in ("eager", "graph") else compiled
        if engine.startswith("triton"):
            from repro import kernels

            self.model.last_layer = kernels.last_layer
        self.images, self.precision = dataset.train.to(self.device), first.precision
        self.steps_per_epoch = len(self.images) // self.batch_size  # the images left over sit an epoch out
        self.streams = {purpose: Streams(seeds, purpose, device) for purpose in ("order", "binarise", "noise")}

        groups: dict[tuple, list[int]] = {}
        for run, e in enumerate(experiments):
            groups.setdefault((METHODS[e.method], e.M, e.K), []).append(run)
        self.groups = {key: torch.tensor(runs, device=self.device) for key, runs in groups.items()}
        self.place = torch.cat([*self.groups.values()]).argsort()
        self.fixed_beta = torch.tensor([0.5 if e.beta is None else e.beta for e in experiments], device=self.device)
        self.learns = torch.tensor([METHODS[e.method].learns_beta for e in experiments], device=self.device)

        self.parameters = [self._flattened(network) for network in (self.model.encoder, self.model.decoder)]
        self.beta_logit = torch.nn.Parameter(torch.where(self.learns, self.fixed_beta, 0.5).logit())
        self.learning_rate = torch.zeros((), device=self.device)
        adam = {"lr": self.learning_rate, "eps": ADAM_EPS[first.init], "fused": True, "capturable": cuda}
        self.optimizer = torch.optim.Adam([*self.parameters, self.beta_logit], **adam)
        self._make_moments()

        self.index = torch.zeros(1, dtype=torch.long, device=self.device)  # of the epoch's next step
        self.offsets = torch.arange(self.batch_size, device=self.device)
        self.order = torch.zeros(len(set(seeds)), len(self.images), dtype=torch.long, device=self.device)
        self.losses = torch.zeros(self.steps_per_epoch, len(seeds), device=self.device)
        self.start_epoch(0)
        self.replay = None if engine.endswith("graph") else self._advance

    @staticmethod
    def _flattened(network: torch.nn.Module) -> torch.nn.Parameter:
        """One tensor [run, parameters] for Adam to update, of which the network's parameters become views."""
        flat, first = torch.nn.Parameter(torch.cat([p.detach().flatten(1) for p in network.parameters()], 1)), 0
        for p in network.parameters():
            size = p[0].numel()
            p.data = flat.data[:, first : first + size].view(p.shape)
            first += size
        return flat

    def _make_moments(self) -> None:
        """Let Adam make its tensors now, all zero, so that a state can be copied into them."""
        for p in (*self.parameters, self.beta_logit):
            p.grad = torch.zeros_like(p)
        with warnings.catch_warnings():  # on CUDA, that this step is not captured
            warnings.simplefilter("ignore")
            self.optimizer.step()
        for tensor in self._moments():
            tensor.zero_()

    def _moments(self) -> list[Tensor]:
        return [tensor for p in (*self.parameters, self.beta_logit) for tensor in self.optimizer.state[p].values()]

    @property
    def beta(self) -> Tensor:
        """The weight of the VAE's bound in each run's CIWAE, [run]."""
        return torch.where(self.learns, self.beta_logit.sigmoid(), self.fixed_beta)

    def start_epoch(self, epoch: int) -> None:
        """Draw the epoch's order and set its learning rate."""
        self.learning_rate.fill_(learning_rate(epoch))
        self.order.copy_(self.streams["order"].permutations(len(self.images)))
        self.losses.zero_()
        self.index.zero_()

    def step(self) -> None:
        """One update of every run on the epoch's next batch; the negative of theta's bound goes to ``losses``."""
        if self.replay is None:
            self.replay = self._capture()
        self.replay()

    @torch.no_grad()
    def _advance(self) -> None:
        batch = self.order.index_select(1, self.index * self.batch_size + self.offsets)
        self.update(self.streams["binarise"].binarise(self.images[batch]))
        self.index += 1

    def update(self, x: Tensor) -> None:
        """One update of every run on its binary batch x [run, batch, pixels]."""
        for p, gradient in zip(self.parameters, self.gradients(x, self.T, self._weigh), strict=True):
            p.grad = gradient
        self.optimizer.step()

    def gradients(self, x: Tensor, T: int, weigh: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """``Autoencoder.gradients`` at T fresh samples, in this program's precision."""
        eps = self.streams["noise"].normal((T, self.batch_size, self.model.shape.latent))
        with matmul_precision(self.precision):
            return self.model.gradients(x, eps, weigh, torch.bfloat16 if self.precision == "bf16" else None)

    @torch.enable_grad()
    def _weigh(self, log_w: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of what theta and phi descend with respect to log w, each [run, T, batch]."""
        log_w_theta, log_w_phi = log_w.clone().requires_grad_(), log_w.requires_grad_()
        theta, phi = self.objectives(log_w_theta, log_w_phi)
        self.losses.index_copy_(0, self.index, -theta.detach().mean(-1)[None])
        leaves = [log_w_theta, log_w_phi, self.beta_logit]
        a, b, self.beta_logit.grad = torch.autograd.grad(-(theta + phi).mean(-1).sum(), leaves, materialize_grads=True)
        return a, b

    def objectives(self, log_w_theta: Tensor, log_w_phi: Tensor) -> tuple[Tensor, Tensor]:
        """Each run's pair of bounds: two [run, T, batch] -> two [run, batch]."""
        pairs, beta = [], self.beta[:, None]
        for (objective, M, K), runs in self.groups.items():
            alone = len(self.groups) == 1
            log_w = (w if alone else w.index_select(0, runs) for w in (log_w_theta, log_w_phi))
            pairs.append(objective(*(w.unflatten(1, (M, K)) for w in log_w), beta if alone else beta.index_select(0, runs)))
        return pairs[0] if len(pairs) == 1 else tuple(torch.cat(values).index_select(0, self.place) for values in zip(*pairs, strict=True))

    def _capture(self) -> Callable[[], None]:
        """The step as one CUDA graph. Elsewhere the step itself stands in for it, after the same preparation."""
        state, replay = self.get_state(), self._advance
        if self.device.type == "cuda":
            graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
            for purpose in ("binarise", "noise"):
                for g in self.streams[purpose].generators:
                    graph.register_generator_state(g)
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._warm_up()
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph, stream=side):
                self._advance()
            replay = graph.replay
        else:
            self._warm_up()
        self.set_state(state)
        return replay

    def _warm_up(self) -> None:
        """Steps whose results are thrown away: they compile, and let libraries make their workspaces."""
        for _ in range(3):
            self.index.zero_()  # wherever in its epoch training is, there may be no three batches left
            self._advance()

    @property
    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, at their place."""
        moments = {f"moment{i}": tensor for i, tensor in enumerate(self._moments())}
        names = ("beta_logit", "learning_rate", "order", "losses", "index")
        networks = {"encoder": self.parameters[0].detach(), "decoder": self.parameters[1].detach()}
        return networks | {name: getattr(self, name).detach() for name in names} | moments

    def get_state(self) -> dict:
        """A copy of all that the next step depends on."""
        tensors = {name: tensor.clone() for name, tensor in self.state.items()}
        return {"tensors": tensors, "streams": {purpose: s.get_state() for purpose, s in self.streams.items()}}

    def set_state(self, saved: dict) -> None:
        """Go on from ``get_state``'s dictionary."""
        for name, tensor in self.state.items():
            tensor.copy_(saved["tensors"][name])
        for purpose, states in saved["streams"].items():
            self.streams[purpose].set_state(states)


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Matrix products of float32 in TensorFloat-32 where ``precision`` says so."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
