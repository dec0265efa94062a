"""A user's own model from ``module:factory``: importing it, calling it, and a sentence for what goes wrong there."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fedconv.problem_file.schema import suggestion
from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem

FORM = "--model must be module:factory or FILE.py:factory, such as my_model:make"


@dataclass(frozen=True)
class OwnModel:
    """``target``: what the user typed; ``file``: where the code is; ``problem``: what the factory made."""

    target: str
    file: str
    problem: ModuleProblem


def load_model(target: str) -> OwnModel:
    """The problem that ``module:factory`` or ``FILE.py:factory`` makes. Executes the user's code.

    Modules are looked for in the current folder first, a file's own imports in its folder first. What the code prints
    goes to stderr. Raises InputError in one sentence for whatever it raises, and for what it gives.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise InputError(f"{FORM}; got {target!r}")
    with _first_on_path(Path(where).parent.absolute() if where.endswith(".py") else Path.cwd()):
        module = _file(Path(where)) if where.endswith(".py") else _module(where)
        file = getattr(module, "__file__", None) or where
        factory = getattr(module, name, None)
        if factory is None:
            hint = suggestion(name, tuple(k for k, x in vars(module).items() if callable(x) and k[0] != "_"))
            raise InputError(f"--model: {where} has no {name!r}" + (f"; {hint}" if hint else ""))
        if not callable(factory):
            raise InputError(f"--model: {target} must be a function; got {_kind(factory)}")
        with users_code(target, file, "in " + name + "()"):
            made = factory()
        with users_code(target, file, "for what " + name + "() returns"):
            return OwnModel(target, file, _problem(target, made))


def _problem(target: str, made: Any) -> ModuleProblem:
    """A ModuleProblem as it is, or one made of a dict of its arguments."""
    if isinstance(made, ModuleProblem):
        return made
    if not isinstance(made, dict):
        raise InputError(
            "it must return a fedconv.problems.modules.problem.ModuleProblem or a dict of its arguments, {'module':"
            f" ..., 'clients': ..., 'personal': ...}}; got {_kind(made)}"
        )
    known = ("module", "clients", "personal", "loss", "weights", "nu", "lower_bound")
    for key in made:
        if key not in known:
            raise InputError(f"the dict it returns must have keys among {', '.join(known)}; got {key!r}")
    missing = [key for key in ("module", "clients") if key not in made]
    if missing:
        raise InputError(f"the dict it returns must have the keys module and clients; it lacks {', '.join(missing)}")
    from torch import nn

    if not isinstance(made["module"], nn.Module):
        raise InputError(f"module must be a torch.nn.Module; got {_kind(made['module'])}")
    return ModuleProblem(**made)


@contextlib.contextmanager
def users_code(target: str, file: str, when: str, *, among_ours: bool = False) -> Iterator[None]:
    """Turns what the user's code raises into one sentence that names the line, and its prints to stderr.

    among_ours: the user's code is called by ours; then an error without a line of its file is not its own, and passes.
    An InputError keeps its words.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except InputError as error:
        raise InputError(f"{target}: {error}") from error
    except SystemExit as error:
        raise InputError(f"{target} must not end the program; it exits with {error.code!r} {when}") from error
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        if isinstance(error, SyntaxError) and error.filename == file:
            lines = [error.lineno]
        if among_ours and not lines:
            raise
        at = f" (line {lines[-1]})" if lines else ""
        said = " ".join(str(error).split()) or "no message"
        raise InputError(f"{target} raises {type(error).__name__} {when}{at}: {said}") from error


IMPORTING = "while it is imported"


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"--model: {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"fedconv_model_{path.stem}", path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    with users_code(str(path), str(path.absolute()), IMPORTING):
        spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"{FORM}; got a module named {name!r}")
    importlib.invalidate_caches()
    try:
        found = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None:
        raise InputError(f"--model: there is no module {name!r} in the current folder, nor installed")
    with users_code(name, found.origin or name, IMPORTING):
        return importlib.import_module(name)


@contextlib.contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """``folder`` first where Python looks for modules, for as long as the user's code is loaded."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _kind(x: Any) -> str:
    return "None" if x is None else f"{type(x).__name__}"
