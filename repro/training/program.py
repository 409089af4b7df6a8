"""Programs: stacked runs, which are trained side by side, and their training step.

``plain_step`` is the step as the paper writes it, in six lines of automatic differentiation.
``Program.step`` does the same for many runs at once, with one backward pass for both networks and
nothing moved in memory; a test compares the two.
"""

import bisect
import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from repro.beta import BetaCriterion, descents
from repro.bounds import METHODS, Objective
from repro.datasets import Dataset
from repro.estimators import Cotangents, holds_q_still
from repro.models import ADAM_EPS, Autoencoder, Pass
from repro.randomness import Streams, generator
from repro.training.bundles import bundles_of, cotangents_of, side_by_side
from repro.training.engines import ENGINES, Beside, keep_freed_memory, tiny_numbers_as_zero
from repro.training.networks import new_model
from repro.words.experiments import MILESTONES, OF_GPUS, Experiment


def plain_step(
    model: Autoencoder,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    eps: Tensor,
    M: int,
    K: int,
    beta: Tensor | float | None = None,
) -> Tensor:
    """Take one training step, written plainly, and return theta's bound, [run].

    x [run, batch, pixels] is binary and eps [run, M K, batch, latent] standard normal. Each network
    ascends its own bound.
    """
    # Equal numbers: the first depends on theta alone, the second on phi.
    log_w_theta, log_w_phi = (w.unflatten(1, (M, K)) for w in model(x, eps))
    theta, phi = objective(log_w_theta, log_w_phi, beta)  # [run, batch]
    loss = -(theta + phi).mean(-1).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return theta.detach().mean(-1)


OF_PRODUCTS = {"bf16": torch.bfloat16, "fp16": torch.float16}  # over samples; else float32
STEPS_OF_GRAPH = (1, 10)  # the second saves the first operations of each replay
DECAY_RATES = (0.9, 0.999)  # of Adam, as everywhere


def adam(moments, gradients, learning_rate: Tensor, eps: float) -> None:
    """``torch.optim.Adam``'s step in place, as a function that can be compiled.

    ``moments`` holds, for each gradient, the parameter, the number of steps so far, and the running
    means of the gradient and of its square.
    """
    of_mean, of_square = DECAY_RATES
    for (parameter, step, mean, square), gradient in zip(moments, gradients, strict=True):
        step += 1
        mean.lerp_(gradient, 1 - of_mean)
        square.mul_(of_square).addcmul_(gradient, gradient, value=1 - of_square)
        rate = learning_rate / (1 - of_mean**step)
        root = (square / (1 - of_square**step)).sqrt()
        parameter -= rate * mean / (root + eps)


def sgd(moments, gradients, learning_rate: Tensor, eps: float) -> None:
    """Plain gradient descent in place; it takes what ``adam`` takes, and leaves the moments."""
    for (parameter, *_), gradient in zip(moments, gradients, strict=True):
        parameter -= learning_rate * gradient


def batch_of(images: Tensor, order: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
    """The minibatch [seed, batch, pixels] of step number ``index``, in each seed's own order."""
    return images[order[:, index * len(offsets) + offsets]]


def learning_rate(epoch: int, first: float = 1e-3, schedule: str = "burda") -> float:
    """The learning rate in ``epoch``: ``first`` times 10^(-i/7) in stage i = 0 ... 7 of 3^i epochs.

    Burda et al., section 5; with ``schedule="constant"``, it stays at ``first``.
    """
    if schedule == "constant":
        return first
    stage = bisect.bisect_right(MILESTONES[:-1], epoch)
    return first * 10 ** (-stage / 7)


class Gradients(NamedTuple):
    """Gradients of a step at each network's parameters, [run, parameters], and its loss."""

    encoder: Tensor
    decoder: Tensor | None  # None if it is fixed
    beta: Tensor  # at beta's parameter, [run]
    loss: Tensor  # theta's, [run]
    ends: tuple[Tensor, ...]  # if beta is chosen, the encoder's, of the VAE's and of IWAE's loss


class Program:
    """Stacked runs, their optimiser and their random numbers; ``step`` advances all of them.

    ``experiments`` are sorted so that runs of the same bounds lie side by side. ``engine`` is a
    name in ``engines.ENGINES``; ``remark`` says what the engine could not compile. ``decoder``
    holds the fixed decoder's parameters if encoders alone are trained. Every tensor that a step
    reads or writes keeps its address in memory, so that a CUDA graph can be replayed; ``state``
    lists them.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        dataset: Dataset,
        device: str | torch.device = "cpu",
        engine: str = "eager",
        decoder: dict[str, Tensor] | None = None,
    ):
        keep_freed_memory()
        self.experiments = side_by_side(experiments)
        self.device = torch.device(device)
        first = self.experiments[0]
        self.batch_size = first.batch_size
        self.precision = first.precision
        self.decoder_is_fixed = first.decoder != "own"
        self.T = first.M * first.K
        self.seeds = [e.seed for e in self.experiments]
        self.images = dataset.train.to(self.device)
        self.steps_per_epoch = len(self.images) // self.batch_size  # the rest sits the epoch out
        self.streams = {
            purpose: Streams(self.seeds, purpose, device)
            for purpose in ("order", "binarise", "noise")
        }
        self._set_model(dataset.train.mean(0), decoder)
        self._set_engine(engine)
        self._set_objectives()
        self._set_optimizer(ADAM_EPS[first.init])
        self._set_buffers()
        self.start_epoch(0)

    def _set_model(self, mean_image: Tensor, decoder: dict[str, Tensor] | None) -> None:
        """Make both networks, with the fixed decoder if there is one."""
        model = new_model(self.experiments, mean_image)
        if decoder is not None:
            model.hold_decoder(decoder)
        self.model = model.to(self.device)

    def _set_engine(self, name: str) -> None:
        """Set the way in which the step's functions run."""
        self.engine = ENGINES[name]
        self.model.prepare = self.engine.prepare
        two_streams = self.engine.graph and self.device.type == "cuda"
        self.beside = Beside(self.device if two_streams else None)
        self.replays = {} if self.engine.graph else {1: self._take}

    def _set_objectives(self) -> None:
        """Set each run's beta, the derivatives of its bounds, and the runs that hold q still."""
        betas = [0.5 if e.beta is None else e.beta for e in self.experiments]
        learns = [METHODS[e.method].learns_beta for e in self.experiments]
        self.fixed_beta = torch.tensor(betas, device=self.device)
        self.learns = torch.tensor(learns, device=self.device)
        chooses = [METHODS[e.method].chooses_beta for e in self.experiments]
        self.chooses = torch.tensor(chooses, device=self.device)
        still = [holds_q_still(e.estimator) for e in self.experiments]
        by_run = torch.tensor(still, device=self.device)[:, None, None, None]
        self.still = by_run if any(still) else None
        self.all_still = torch.ones_like(by_run[:1])  # for the two ends that beta is chosen from
        shape = (len(betas), self.T, self.batch_size)
        log_w = torch.randn(*shape, generator=generator(0, "trial")).to(self.device)
        self.cotangents, self.remark = self.engine.prepared_whole(
            cotangents_of(bundles_of(self.experiments)),
            (log_w, self.fixed_beta, self.learns, self.fixed_beta),
        )

    def _set_optimizer(self, eps: float) -> None:
        """Make Adam for three tensors: the encoders, the decoders, and the parameters of beta."""
        self.parameters = [self._flattened(network) for network in self._networks()]
        self.beta_parameter = torch.nn.Parameter(self._initial_beta_parameter())
        self.learning_rate = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.Adam(
            [*self.parameters, self.beta_parameter],
            lr=self.learning_rate,
            betas=DECAY_RATES,
            eps=eps,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self._make_moments()
        self.criterion = BetaCriterion(self.parameters[0].detach()) if self.chooses.any() else None

    def _initial_beta_parameter(self) -> Tensor:
        """b with sigmoid(b) = beta, for the runs that learn it."""
        return torch.where(self.learns, self.fixed_beta, 0.5).logit()

    @property
    def beta(self) -> Tensor:
        """The weight of the VAE's bound in each run's CIWAE, [run]: sigmoid(b) if learned."""
        return torch.where(self.learns, self.beta_parameter.sigmoid(), self.fixed_beta)

    def _networks(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of both networks, phi first."""
        return list(self.model.encoder.parameters()), list(self.model.decoder.parameters())

    def _flattened(self, network: Sequence[Tensor]) -> torch.nn.Parameter:
        """One tensor [run, parameters] for Adam, of which the network's parameters become views."""
        runs = len(self.seeds)
        none = torch.zeros(runs, 0, device=self.device)
        rows = [p.detach().reshape(runs, -1) for p in network]
        flat = torch.nn.Parameter(torch.cat([none, *rows], 1))
        first = 0
        for p in network:
            size = p.numel() // runs
            p.data = flat.data[:, first : first + size].view(p.shape)
            first += size
        return flat

    def _make_moments(self) -> None:
        """Let Adam make its tensors now, all zero, so that a state can be copied into them."""
        for p in (*self.parameters, self.beta_parameter):
            p.grad = torch.zeros_like(p)
        with warnings.catch_warnings():  # on CUDA, torch warns that no graph captures this step
            warnings.simplefilter("ignore")
            self.optimizer.step()
        for tensor in self._moments():
            tensor.zero_()

    def _moments(self) -> list[Tensor]:
        parameters = (*self.parameters, self.beta_parameter)
        return [tensor for p in parameters for tensor in self.optimizer.state[p].values()]

    def _set_buffers(self) -> None:
        """Make the tensors that an epoch's steps read and write besides parameters."""
        count = len(self.images)
        distinct = len(set(self.seeds))
        self.index = torch.zeros(1, dtype=torch.long, device=self.device)  # of the next step
        self.offsets = torch.arange(self.batch_size, device=self.device)
        self.order = torch.zeros(distinct, count, dtype=torch.long, device=self.device)
        self.losses = torch.zeros(self.steps_per_epoch, len(self.seeds), device=self.device)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle the training images and set the learning rate for ``epoch``."""
        first = self.experiments[0]
        self.learning_rate.fill_(learning_rate(epoch, first.learning_rate, first.schedule))
        self.order.copy_(self.streams["order"].permutations(len(self.images)))
        self.losses.zero_()
        self.index.zero_()

    def step(self) -> None:
        """Update every run on the epoch's next batch; the losses go to ``losses``."""
        self.advance(1)

    def advance(self, most: int) -> int:
        """Take one step, or several, up to ``most``, by one CUDA graph; return how many."""
        if not self.replays:
            self.replays = self._capture()
        steps = max(steps for steps in self.replays if steps <= most)
        with tiny_numbers_as_zero():
            self.replays[steps]()
        return steps

    def take_steps(self, count: int) -> None:
        """Take ``count`` steps, several at once where a CUDA graph holds several."""
        while count:
            count -= self.advance(count)

    def draw_batch(self, offsets: Tensor | None = None) -> Tensor:
        """The next batch, or that at ``offsets``, for every run; binarised if its model says so."""
        offsets = self.offsets if offsets is None else offsets
        take = self.engine.prepare(batch_of) if self.engine.compiles_small_operations else batch_of
        batch = take(self.images, self.order, self.index, offsets)
        streams = self.streams["binarise"]
        return streams.binarise(batch) if self.model.binarises else streams.runs(batch)

    @torch.no_grad()
    def _take(self, steps: int = 1) -> None:
        for _ in range(steps):
            x = self.draw_batch()
            with matmul_precision(self.precision):
                loss = self.update(x)
            self.losses.index_copy_(0, self.index, loss[None])
            self.index += 1

    def update(self, x: Tensor) -> Tensor:
        """Update every run on its binary batch x [run, batch, pixels]; returns the loss, [run]."""
        found = self.gradients(x)
        self.descend(found.encoder, found.decoder, found.beta)
        if self.criterion is not None:
            chosen = self.criterion.choose(*found.ends, self.fixed_beta)
            self.fixed_beta.copy_(torch.where(self.chooses, chosen, self.fixed_beta))
        return found.loss

    def gradients(self, x: Tensor) -> Gradients:
        """The gradients of each run's losses at x [run, batch, pixels], with T fresh samples."""
        forward = self.forward(x, self.noise(self.T))
        of_beta = (self.beta_parameter.detach(), self.learns, self.fixed_beta)
        with self.beside:
            counts = self.cotangents(forward.log_w, *of_beta)
            ends = self.engine.prepare(descents)(forward.log_w) if self.criterion else ()
            of_last = None
            if not self.decoder_is_fixed:
                of_last = self.model.last_layer_gradients(forward, counts.theta)
        return self.pull_back(forward, counts, of_last, ends)

    def noise(self, T: int) -> Tensor:
        """Draw T samples' noise for every run, [run, T, batch, latent]."""
        return self.streams["noise"].normal((T, self.batch_size, self.model.shape.latent))

    def forward(self, x: Tensor, eps: Tensor) -> Pass:
        """Compute the log-weights at x with the noise eps, and keep the activations."""
        return self.model.forward_with_layers(x, eps, OF_PRODUCTS.get(self.precision))

    def pull_back(self, forward: Pass, counts: Cotangents, of_last, ends=()) -> Gradients:
        """Do ``Autoencoder.pull_back`` with the decoder's part on a second CUDA stream.

        ``counts`` and ``of_last``, from ``last_layer_gradients``, may still be computed there.
        ``ends`` are phi's cotangents from which beta is chosen.
        """
        model = self.model
        of_each = model.sample_gradients(forward)
        self.beside.join()
        at_decoder = None
        if of_last is not None:
            with self.beside:
                at_decoder = model.decoder_gradient(forward, counts.theta, of_each, of_last)
        at_encoder = model.encoder_gradient(forward, counts.phi, of_each, self.still)
        at_ends = [model.encoder_gradient(forward, end, of_each, self.all_still) for end in ends]
        self.beside.join()
        return Gradients(at_encoder, at_decoder, counts.beta, counts.loss, tuple(at_ends))

    def descend(self, *gradients: Tensor | None) -> None:
        """Take the optimiser's step with gradients of encoders, decoders and beta; None skips."""
        moving = [
            (p, gradient)
            for p, gradient in zip((*self.parameters, self.beta_parameter), gradients, strict=True)
            if gradient is not None
        ]
        descent, moments, *how = self._descent(p for p, _ in moving)
        if descent is sgd or self.engine.compiles_small_operations:
            self.engine.prepare(descent)(moments, [gradient for _, gradient in moving], *how)
            return
        self.optimizer.zero_grad()
        for p, gradient in moving:
            p.grad = gradient
        self.optimizer.step()

    def _descent(self, parameters: Iterable[Tensor]) -> tuple:
        """``adam`` or ``sgd``, and its arguments besides gradients."""
        step = sgd if self.experiments[0].optimizer == "sgd" else adam
        moments = [(p.detach(), *self.optimizer.state[p].values()) for p in parameters]
        return step, moments, self.learning_rate, self.optimizer.defaults["eps"]

    def _capture(self) -> dict[int, Callable[[], None]]:
        """The step, and several of them, as CUDA graphs; elsewhere the step itself.

        All of them are prepared by steps whose results are thrown away.
        """
        state = self.get_state()
        replays = {1: self._take}
        if self.device.type == "cuda":
            replays = self._graphs()
        else:
            self._warm_up()
        self.set_state(state)
        return replays

    def _graphs(self) -> dict[int, Callable[[], None]]:
        """The step, and several of them, as CUDA graphs; a failure leaves the stream as it was."""
        stream = torch.cuda.current_stream()
        side = torch.cuda.Stream()
        side.wait_stream(stream)
        try:
            with torch.cuda.stream(side):
                self._warm_up()
            stream.wait_stream(side)
            return {steps: self._graph(steps, side).replay for steps in STEPS_OF_GRAPH}
        finally:
            torch.cuda.set_stream(stream)

    def _graph(self, steps: int, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for purpose in ("binarise", "noise"):
            for g in self.streams[purpose].generators:
                graph.register_generator_state(g)
        with torch.cuda.graph(graph, stream=stream):
            self._take(steps)
        return graph

    def _warm_up(self) -> None:
        """Take steps to be thrown away: they compile, and libraries make workspaces."""
        for _ in range(3):
            self.index.zero_()  # late in an epoch there may be no three batches left
            self._take()

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors that the next step depends on, by name, without a copy."""
        tensors = {
            "encoder": self.parameters[0],
            "decoder": self.parameters[1],
            "beta_logit": self.beta_parameter,
            "learning_rate": self.learning_rate,
            "order": self.order,
            "losses": self.losses,
            "index": self.index,
        }
        if self.criterion is not None:
            tensors |= self.criterion.state | {"chosen_beta": self.fixed_beta}
        tensors |= {f"moment{i}": tensor for i, tensor in enumerate(self._moments())}
        return {name: tensor.detach() for name, tensor in tensors.items()}

    def get_state(self) -> dict:
        """Copy all that the next step depends on: ``state``, and the random streams' states."""
        return {
            "tensors": {name: tensor.clone() for name, tensor in self.state.items()},
            "streams": {purpose: s.get_state() for purpose, s in self.streams.items()},
        }

    def set_state(self, saved: dict, streams: bool = True) -> None:
        """Restore the dictionary ``saved`` by ``get_state``; ``streams=False`` if training is over.

        A generator's state fits one kind of device only; all else can be copied to any.
        """
        tensors = self.state
        most = {"order": len(self.images) - 1, "index": len(self.losses)}
        if tensors.keys() != saved["tensors"].keys():
            raise ValueError("its tensors are another model's")
        for name, tensor in tensors.items():
            found = saved["tensors"][name]
            if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
                raise ValueError(f"its {name} has another shape or type")
            if name in most and not 0 <= found.min() <= found.max() <= most[name]:
                raise ValueError(f"its {name} is of images that are not there")
            tensor.copy_(found)
        if not streams:
            return
        for purpose, stream in self.streams.items():
            stream.set_state(saved["streams"][purpose])


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiply matrices, and convolve, within the context as ``precision`` asks.

    Those of float32 are rounded to TensorFloat-32 if it is one ``OF_GPUS``; sums of products of
    float16 are float32.
    """
    of_half = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), of_half.allow_fp16_reduced_precision_reduction
    of_convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision in OF_GPUS else "highest")
    torch.backends.cudnn.allow_tf32 = precision in OF_GPUS
    of_half.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        of_half.allow_fp16_reduced_precision_reduction = before[1]
        torch.backends.cudnn.allow_tf32 = of_convolutions
