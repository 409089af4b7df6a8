"""Execution of a user's own Python file, with the modules beside it that it imports."""

import ast
import contextlib
import signal
import sys
import threading
import tokenize
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from repro import ReproError, in_short
from repro.bounds import METHODS

_files: set[str] = set()  # that were executed, and those beside them


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn an error in code of the user's own into one line that says where it is."""
    try:
        yield
    except (ReproError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit, too
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _files]
        place = f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
        raise ReproError(f"{what} fails ({in_short(error)}{place})") from None


@contextlib.contextmanager
def time_limit(what: str, seconds: int) -> Iterator[None]:
    """Raise ReproError within the context after so many seconds, where signals can be had."""

    def too_late(*signal_and_frame) -> None:
        raise ReproError(f"{what} has not returned after {seconds} s")

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def local_files(path: Path) -> list[Path]:
    """The file, and the modules in its folder that it imports, itself or through one another."""
    found = [path]
    for file in found:  # which grows
        for name in _imported_by(file):
            module, package = path.parent / f"{name}.py", path.parent / name
            beside = sorted(package.rglob("*.py")) if package.is_dir() else [module]
            found += [other for other in beside if other.is_file() and other not in found]
    return found


def _imported_by(file: Path) -> set[str]:
    """The first parts of the names of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_bytes(), file)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def source_of(files: list[Path]) -> str:
    """The text of a file, and under their names that of the others, each as its coding says."""
    texts = []
    for file in files:
        with tokenize.open(file) as opened:
            title = f"\n# {file.relative_to(files[0].parent)}\n" if texts else ""
            texts.append(title + opened.read())
    return "".join(texts)


def executed(path: Path, files: list[Path]) -> types.ModuleType:
    """Execute a file as Python imports a module; the ``files`` beside it can be imported.

    Raises ReproError if it changes what all code shares: the project's methods, or the default type
    or device of tensors.
    """
    _files.update(map(str, files))
    module = types.ModuleType(f"own_{path.stem}")
    module.__file__ = str(path)
    for name in {file.relative_to(path.parent).parts[0] for file in files[1:]}:
        _forget(name.removesuffix(".py"))
    sys.modules[module.__name__] = module
    with _importable(path.parent), _shared_state_kept(path):
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def _forget(name: str) -> None:
    """Have a module imported anew: another file's folder may hold one of the same name."""
    for known in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
        del sys.modules[known]


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Have the modules of a folder found first within the context, and last after it."""
    writes_no_cache = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a cache goes by seconds, and may be older than the file
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.path.append(str(folder))
        sys.dont_write_bytecode = writes_no_cache


@contextlib.contextmanager
def _shared_state_kept(path: Path) -> Iterator[None]:
    import torch

    methods = METHODS.copy()
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    try:
        yield
        if methods != METHODS:
            raise ReproError(
                f"{path.name} changes METHODS, the project's methods; leave them as they are, and "
                f"name what is yours: {path.name}:NAME"
            )
        if (torch.get_default_dtype(), torch.get_default_device()) != (dtype, device):
            raise ReproError(
                f"{path.name} changes the default type or device of tensors; leave them as they are"
            )
    finally:
        METHODS.clear()
        METHODS.update(methods)
        torch.set_default_dtype(dtype)
        torch.set_default_device(None if device.type == "cpu" else device)
