"""Count the launches of kernels in a training step, in the code that is made for a GPU; needs none.

A step of the five methods runs on the CPU, so that its streams and functions are those of a GPU,
while TorchInductor makes the code of each compiled function for an H200 (sm_90), which is read and
not run. It takes two minutes, and the package triton (``pip install -e '.[launches]'``)::

    python -m benchmarks.launches

A library's product may launch two kernels, and the generator of random numbers one more a graph.
"""

import contextlib
import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest.mock import patch

import click
import torch
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import compile_fx
from torch._inductor import config as inductor
from torch._inductor.fx_passes import joint_graph, post_grad
from torch._inductor.graph import GraphLowering
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._triton import has_triton

from repro import datasets, likelihood
from repro.training import engines, loop
from repro.training.program import STEPS_OF_GRAPH, Program
from repro.words.experiments import plan

H200 = SimpleNamespace(
    name="NVIDIA H200",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    shared_memory_per_block_optin=232448,
    L2_cache_size=50 * 2**20,
)
PHASES = {  # of a compiled function
    "batch_of": "draws",
    "_log_w_and_layers": "both networks, forward",
    "stacked": "bounds",
    "gradients_of_each": "decoder, backward",
    "last_layer_gradients": "decoder, backward",
    "decoder_gradient": "decoder, backward",
    "encoder_gradient": "encoder, backward",
    "adam": "Adam, loss and index",
    "decoder_gradient_and_step": "decoder, backward, and its Adam",
    "encoder_gradient_and_step": "encoder, backward, and its Adam",
    "keep_loss_and_step": "beta's Adam, loss and index",
}
LAUNCH = re.compile(r"^\s+(?:\w+ = )?(?:\w+\.run|extern_kernels\.\w+|torch\.ops\.[\w.]+)\(", re.M)
WITHOUT_LAUNCH = {"detach", "empty", "set_"}


# Code for a GPU that is not there


def _learn_patterns() -> None:
    """Let TorchInductor trace its patterns now, which it would else do on the GPU."""
    for module in (joint_graph, post_grad):
        module.lazy_init(torch.device("cpu"))
        module.lazy_init = lambda *device: None


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let PyTorch find an H200, for which it can make code and nothing else."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    def nothing(*args) -> int:
        return 0

    found = {
        "device_count": lambda: 1,
        "current_device": nothing,
        "synchronize": nothing,
        "get_device_properties": lambda device=None: H200,
    }
    of_cuda = {
        "is_available": lambda: True,
        "get_device_capability": lambda device=None: (9, 0),
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": nothing,
        "_exchange_device": nothing,
        "_maybe_exchange_device": nothing,
    }
    target = SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32))
    driver.set_active(target)
    as_methods = {name: staticmethod(function) for name, function in found.items()}
    with (
        patch.multiple(torch.cuda, **found, **of_cuda),
        patch.multiple(CudaInterface, get_raw_stream=staticmethod(nothing), **as_methods),
        patch.object(torch.version, "cuda", "13.0"),
        patch.object(FakeTensor, "copy_", _copy, create=True),
        inductor.patch(fx_graph_cache=False, shape_padding=False),
    ):
        has_triton.cache_clear()
        yield
    has_triton.cache_clear()


def _copy(self, source, non_blocking=False):
    """``Tensor.copy_``, which asks a build for CPUs for a GPU, as one call of an operator."""
    return torch.ops.aten.copy_.default(self, source, non_blocking)


def code_for_gpu(graph: GraphModule, options: dict) -> str:
    """The code that TorchInductor makes for an H200 of a graph of operators traced on the CPU."""
    graph = copy.deepcopy(graph)
    cuda = torch.device("cuda:0")
    mode = FakeTensorMode()
    inputs = []
    for node in graph.graph.nodes:
        there = [
            torch.fx.node.map_aggregate(a, lambda a: cuda if isinstance(a, torch.device) else a)
            for a in (node.args, node.kwargs)
        ]
        node.args, node.kwargs = there
        if node.op == "placeholder":
            like = node.meta["val"]
            with mode:
                inputs.append(
                    torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=cuda)
                )
        node.meta = {}
    made: list[str] = []

    def keep(code: str) -> None:
        made.append(code)
        raise InterruptedError("the code is not loaded")

    context = torch._guards.TracingContext(mode)
    with pretended_gpu(), torch._guards.tracing(context), inductor.patch(options):
        FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*inputs)
        with patch.object(GraphLowering, "save_output_code", staticmethod(keep)):
            try:
                compile_fx.compile_fx_inner(graph, inputs)
            except Exception:
                if not made:
                    raise
    return made[0]


def launches_in(code: str) -> int:
    """Launches of kernels in the code of a compiled function."""
    body = code[code.index("def call(") : code.index("def get_args")]
    return len(LAUNCH.findall(body))


# A step, and what it launches


class Record:
    """What a step launches: ``(phase, number, whether on the second stream)``, or a join."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, bool]] = []
        self.is_beside = False
        self.is_compiled = False

    def launch(self, phase: str, number: int) -> None:
        """Add launches to the current stream."""
        self.events.append((phase, number, self.is_beside))

    def __enter__(self) -> None:  # as engines.Beside
        self.is_beside = True
        self.events.append(("enter", 0, True))

    def __exit__(self, *error) -> None:
        self.is_beside = False

    def join(self) -> None:
        """Let the first stream wait for the second."""
        self.events.append(("join", 0, False))

    def compiled(self, function: Callable, options: dict) -> Callable:
        """``torch.compile``, which runs operators on the CPU and counts launches on a GPU."""
        name = function.__name__
        phase = PHASES.get(name, name)

        def inner(graph: GraphModule, inputs, **ignored) -> Callable:
            number = launches_in(code_for_gpu(graph, options))

            def run(arguments):
                self.launch(phase, number)
                self.is_compiled = True
                try:
                    return graph.forward(*arguments)
                finally:
                    self.is_compiled = False

            run._boxed_call = True
            return run

        def backend(graph, inputs):
            return compile_fx.compile_fx(graph, inputs, inner_compile=inner)

        return torch.compile(function, dynamic=False, fullgraph=True, backend=backend)

    def by_phase(self) -> dict[str, tuple[int, int]]:
        """For each phase its launches, and how many of them are on the second stream."""
        every, beside = Counter(), Counter()
        for phase, number, is_beside in self.events:
            every[phase] += number
            beside[phase] += number * is_beside
        return {phase: (every[phase], beside[phase]) for phase in every if every[phase]}

    def longest_chain(self) -> int:
        """The number of launches that wait for one another."""
        first = second = 0
        for phase, number, is_beside in self.events:
            if phase == "enter":
                second = max(first, second)
            elif phase == "join":
                first = max(first, second)
            elif is_beside:
                second += number
            else:
                first += number
        return max(first, second)


class Operators(TorchDispatchMode):
    """Records the operators that run outside of compiled functions, each of which is a launch."""

    def __init__(self, record: Record):
        super().__init__()
        self.record = record

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let functions be compiled although this mode is active."""
        return True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if not (self.record.is_compiled or function.is_view or name in WITHOUT_LAUNCH):
            drawn = name in ("bernoulli", "randn")
            self.record.launch("draws" if drawn else "Adam, loss and index", 1)
        return function(*args, **(kwargs or {}))


def program_on(record: Record, engine: str) -> Program:
    """The program of Table 1's five methods with 64 samples, as a GPU would run it."""
    runs = plan(profile="smoke", dataset="digits", model="reference")
    program = loop.make(runs, datasets.load("digits"), "cpu", engine)
    if program.remark:
        raise RuntimeError(program.remark)
    program.beside = record
    return program


def recorded(engine: str, steps: int = 1) -> Record:
    """What so many steps of one graph launch."""
    record = Record()
    prepared = {}

    def compiled(function: Callable, fuses: bool = False) -> Callable:
        if function not in prepared:
            prepared[function] = record.compiled(function, engines.FUSED if fuses else {})
        return prepared[function]

    with (
        patch.multiple(engines, compiled=compiled, compiled_whole=compiled),
        patch.object(likelihood, "_is_compiled_for_gpu", lambda x: torch.compiler.is_compiling()),
    ):
        program = program_on(record, engine)
        program._take(2)  # makes the code
        record.events.clear()
        with Operators(record):
            program._take(steps)
    return record


@click.command()
def main() -> None:
    """Print the launches of a step, by phase, and the longest chain of them."""
    _learn_patterns()
    for engine in ("compiled-graph", "fused-graph"):
        one, several = (recorded(engine, steps) for steps in STEPS_OF_GRAPH)
        for phase, (every, beside) in one.by_phase().items():
            print(f"{engine:15} {phase:30} {every:3}  on the second stream {beside:3}")
        total = sum(every for every, _ in one.by_phase().values())
        print(f"{engine:15} {'all':30} {total:3}  wait for one another {one.longest_chain():3}")
        each = several.longest_chain() / STEPS_OF_GRAPH[1]
        print(
            f"{engine:15} {'a step of ten in one graph':30}      wait for one another {each:5.1f}"
        )


if __name__ == "__main__":
    main()
