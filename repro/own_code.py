"""Execution of a user's own Python file, with the modules beside it that it imports."""

import ast
import contextlib
import os
import signal
import sys
import sysconfig
import threading
import tokenize
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from repro import Ended, ReproError, bounds, in_short
from repro.bounds import METHODS

MAIN = ("__main__", "__mp_main__")  # modules of the process itself
INSTALLED = {os.path.join(os.path.dirname(bounds.__file__), "")}  # folders, each with its slash
INSTALLED |= {f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "purelib", "platlib")}
INSTALLED |= {f"{p}{os.sep}" for p in sys.path if p.endswith(("site-packages", "dist-packages"))}
PATIENCE = 300  # seconds that a file or a trial of a model may take
_files: set[str] = set()  # that were executed, and those that they import
_folders: set[str] = set()  # in which they lie
_helpers: dict[str, set[Path]] = {}  # name of a module beside one of these files -> where it lies
_late: set[str] = set()  # those names that a file imports only while it is used


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn an error in code of the user's own into one line that says where it is."""
    try:
        yield
    except (ReproError, KeyboardInterrupt, Ended):
        raise
    except BaseException as error:  # SystemExit, too
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _files]
        place = f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
        raise ReproError(f"{what} fails ({in_short(error)}{place})") from None


@contextlib.contextmanager
def time_limit(what: str, seconds: int | None = None) -> Iterator[None]:
    """Raise ReproError within the context after so many seconds, where signals can be had."""
    seconds = seconds or PATIENCE

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
    """The file, and the modules in its folder that it imports, itself or through one another.

    Python looks among what is imported already first, so a folder beside that is called like one
    of those, as ``torch`` or this package, is not meant.
    """
    found = [path]
    for file in found:  # which grows
        for name in _imported_by(file):
            module, package = path.parent / f"{name}.py", path.parent / name
            beside = sorted(package.rglob("*.py")) if package.is_dir() else [module]
            if name in sys.modules and not _is_own(sys.modules[name]):
                continue
            found += [other for other in beside if other.is_file() and other not in found]
    return found


def _is_own(module: types.ModuleType) -> bool:
    """True if a module lies in a folder of a user's files, and not where packages are installed."""
    facts = getattr(module, "__dict__", {})  # some modules make any attribute up
    places = [facts.get("__file__"), *facts.get("__path__", ())]
    place = str(next(filter(None, places), ""))
    return place.startswith((*_folders,)) and not place.startswith((*INSTALLED,))


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
            title = f"\n# {os.path.relpath(file, files[0].parent)}\n" if texts else ""
            texts.append(title + opened.read())
    return "".join(texts)


def executed(path: Path) -> tuple[types.ModuleType, list[Path]]:
    """Execute a file as Python imports a module; the modules beside it can be imported.

    Returns it, and the files of the user's own that it is made of. Raises ReproError if it changes
    what all code shares: the project's methods, or the default type or device of tensors.
    """
    _folders.add(f"{path.parent}{os.sep}")
    files = local_files(path)
    _files.update(map(str, files))
    for name, known in [*sys.modules.items()]:  # another folder may hold one of the same name
        if name in MAIN or not _is_own(known):
            continue
        if getattr(known, "__file__", None) in {*_files, None}:
            del sys.modules[name]
    module = types.ModuleType(f"own_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    before = {*sys.modules, *MAIN}
    with _importable(path.parent), shared_state_kept(path.name):
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    imported = [m for name, m in sys.modules.items() if name not in before and _is_own(m)]
    places = [str(getattr(m, "__file__", "")) for m in imported]
    _check_helpers([f for f in files[1:] if f.parent == path.parent], {*places})
    files += sorted({Path(place) for place in places if place.endswith(".py")} - {*files})
    _files.update(map(str, files))
    return module, files


def _check_helpers(beside: list[Path], imported: set[str]) -> None:
    """Raise ReproError if a module that is imported late is one of two of the same name."""
    for file in beside:
        _helpers.setdefault(file.stem, set()).add(file)
        if str(file) not in imported:
            _late.add(file.stem)
        if file.stem in _late and len(_helpers[file.stem]) > 1:
            raise ReproError(
                f"there are two {file.name}, and one is imported inside a function; rename one"
            )


@contextlib.contextmanager
def hashed_modules(called: str) -> Iterator[None]:
    """Raise ReproError if ``called`` imports a module of a user's own that no hash covers."""
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        module = sys.modules[name]
        place = getattr(module, "__file__", None)
        if _is_own(module) and place and place not in _files:
            del sys.modules[name]
            raise ReproError(
                f"{called} imports {name} while it is used, so that its own name does not change "
                "with that file; import it at the top, by an import statement"
            )


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Have the modules of a folder found first within the context, and last after it."""
    writes_no_cache = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a cache goes by seconds, and may be older than the file
    before = {*sys.path}
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        _folders.update(f"{added}{os.sep}" for added in {*sys.path} - before)
        sys.path.remove(str(folder))
        sys.path.append(str(folder))
        sys.dont_write_bytecode = writes_no_cache


@contextlib.contextmanager
def shared_state_kept(called: str) -> Iterator[None]:
    """Put back what all code shares, and raise ReproError if it was changed within the context."""
    import torch

    methods, parts = METHODS.copy(), vars(bounds).copy()
    dtype, device, folder = torch.get_default_dtype(), torch.get_default_device(), os.getcwd()
    precision = torch.get_float32_matmul_precision()
    try:
        yield
        if (methods, parts) != (METHODS, vars(bounds)):
            raise ReproError(
                f"{called} changes METHODS or another part of repro.bounds; leave them as they "
                "are, and name what is yours: FILE.py:NAME"
            )
        now = torch.get_default_dtype(), torch.get_default_device(), os.getcwd()
        if (*now, torch.get_float32_matmul_precision()) != (dtype, device, folder, precision):
            raise ReproError(
                f"{called} changes the default type or device of tensors, the precision of their "
                "products, or the folder to work in; leave them as they are"
            )
    finally:
        vars(bounds).update(parts)
        METHODS.clear()
        METHODS.update(methods)
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(dtype)
        torch.set_default_device(None if device.type == "cpu" else device)
        os.chdir(folder)
