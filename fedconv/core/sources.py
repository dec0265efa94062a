"""The source that a module's work depends on, by what is imported, and a digest of it: kept data say which code made
them, and are computed again once that code has changed."""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

_DOTTED = re.compile(r"\w+(\.\w*)+(:\w+)?")
_FILE = re.compile(r"[\w-]+(\.\w+)+")


@dataclass
class Links:
    """What a file names: ``ran`` modules that it imports as soon as it is imported; ``later`` those that are imported
    in functions, or by a name in a string; ``libraries``: top-level packages of others; ``files`` beside it."""

    ran: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)


@dataclass(frozen=True)
class Needs:
    """All that some modules depend on: modules, packages of others, and files that are no modules."""

    modules: frozenset[str]
    libraries: frozenset[str]
    files: frozenset[Path]


class Sources:
    """The packages in the folder ``root`` that belong together, and what their modules depend on.

    An import counts wherever it stands, but for those under ``if TYPE_CHECKING``, which never run. A string counts
    that is the dotted name of a module (with ``:function`` or an attribute), the beginning of one, or an f-string that
    such names fit; so does one that names a file in the module's folder or in a package around it. Of a package that is
    imported for the sake of a module in it, only what its own import runs counts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._links: dict[str, Links] = {}

    @cached_property
    def modules(self) -> dict[str, Path]:
        """The file of every module by its dotted name."""
        found = {}
        for package in sorted(self.root.iterdir()):
            if not (package / "__init__.py").is_file() or not self._ours(package):
                continue
            for path in sorted(package.rglob("*.py")):
                name = ".".join(path.relative_to(self.root).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
        return found

    def _ours(self, package: Path) -> bool:
        """Whether no other distribution has installed the package, and it is no second name of one inside another."""
        place = package.resolve()
        if place.parent != self.root and place.is_relative_to(self.root):
            return False
        if self.root not in _library_folders():
            return True
        own = _distributions().get(__name__.partition(".")[0], ())
        return set(_distributions().get(package.name, ())) <= set(own)

    def source(self, path: Path) -> bytes:
        """What a file holds."""
        return path.read_bytes()

    def needs(self, *starts: str) -> Needs:
        """What the modules ``starts`` depend on, themselves included. Raises ValueError for one that is none."""
        unknown = [name for name in starts if name not in self.modules]
        if unknown:
            raise ValueError(f"there is no module {unknown[0]} in {self.root}")
        seen: dict[str, bool] = {}  # module: whether all its links count
        open_: list[tuple[str, bool]] = [(name, True) for name in starts]
        libraries: set[str] = set()
        files: set[Path] = set()
        while open_:
            name, fully = open_.pop()
            if name not in self.modules or seen.get(name, False) or (name in seen and not fully):
                continue
            seen[name] = fully
            links = self.links(name)
            libraries |= links.libraries
            open_ += [(other, True) for other in links.ran | (links.later if fully else set())]
            if fully:
                files |= links.files
            parts = name.split(".")
            open_ += [(".".join(parts[:k]), False) for k in range(1, len(parts))]
        return Needs(frozenset(seen), frozenset(libraries), frozenset(files))

    def digest(self, *starts: str) -> str:
        """16 hexadecimal digits that change with any source that the modules ``starts`` depend on, and with the
        versions of Python and of the packages of others."""
        needs = self.needs(*starts)
        digest = hashlib.sha256(f"python {platform.python_version()}\n".encode())
        for library in sorted(needs.libraries):
            for name in sorted(set(_distributions().get(library, ()))):
                digest.update(f"{name} {metadata.version(name)}\n".encode())
        for path in sorted({self.modules[name] for name in needs.modules} | needs.files):
            source = self.source(path)
            digest.update(f"{path.relative_to(self.root).as_posix()} {len(source)}\n".encode() + source)
        return digest.hexdigest()[:16]

    def links(self, name: str) -> Links:
        """What a module names."""
        if name not in self._links:
            reader = _Reader(self, name)
            reader.visit(ast.parse(self.source(self.modules[name])))
            self._links[name] = reader.links
        return self._links[name]

    def named(self, text: str) -> list[str]:
        """Modules that a string names: the module itself, else those that begin with it, else the one that it is an
        attribute of."""
        text = text.partition(":")[0]
        if text.partition(".")[0] not in self.modules:
            return []
        if text in self.modules:
            return [text]
        begun = [name for name in self.modules if name.startswith(text)]
        parts = text.split(".")
        around = (".".join(parts[:k]) for k in range(len(parts) - 1, 1, -1))
        return begun or [name for name in around if name in self.modules][:1]

    def fitting(self, pattern: str) -> list[str]:
        """Modules whose whole names a pattern fits."""
        return [name for name in self.modules if re.fullmatch(pattern, name)]


class _Reader(ast.NodeVisitor):
    """Collects the links of one module."""

    def __init__(self, sources: Sources, name: str) -> None:
        self.sources, self.name, self.links = sources, name, Links()
        self.path = sources.modules[name]
        self.package = name if self.path.name == "__init__.py" else name.rpartition(".")[0]
        self._inside = 0

    def _add(self, names: Iterable[str]) -> None:
        (self.links.later if self._inside else self.links.ran).update(names)

    def _imported(self, name: str) -> bool:
        """Note a module that is imported; whether it is one of ours."""
        if name in self.sources.modules:
            self._add([name])
            return True
        top = name.partition(".")[0]
        if top not in self.sources.modules and top not in sys.stdlib_module_names:
            self.links.libraries.add(top)
        return False

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._imported(alias.name)
            if alias.asname is None:
                self._imported(alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        for alias in node.names:
            if f"{base}.{alias.name}" in self.sources.modules:
                self._add([f"{base}.{alias.name}"])
            else:
                self._imported(base)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def _deferred(self, node: ast.AST) -> None:
        self._inside += 1
        self.generic_visit(node)
        self._inside -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _deferred

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str):
            return
        if _DOTTED.fullmatch(node.value):
            self.links.later.update(self.sources.named(node.value))
        if _FILE.fullmatch(node.value):
            self.links.files.update(self._beside(node.value))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pattern = "".join(self._pattern(part) for part in node.values)
        begin = re.match(r"\w+(?=\\\.)", pattern)
        if begin is not None and begin[0] in self.sources.modules:
            self.links.later.update(self.sources.fitting(pattern))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def _pattern(self, part: ast.expr) -> str:
        if isinstance(part, ast.Constant):
            return re.escape(str(part.value))
        inner = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
        known = {"__name__": self.name, "__package__": self.package}
        return re.escape(known[inner]) if inner in known else r"[\w.]*"

    def _beside(self, name: str) -> Iterator[Path]:
        """The file of that name in the module's folder or its templates, or in a package around it."""
        folder = self.path.parent
        while folder != self.sources.root:
            for file in (folder / name, folder / "templates" / name):
                if file.is_file() and not name.endswith(".py"):
                    yield file
            folder = folder.parent


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _library_folders() -> frozenset[Path]:
    """Folders of the path where other distributions are installed."""
    return frozenset(Path(str(d.locate_file(""))).resolve() for d in metadata.distributions())


@cache
def sources() -> Sources:
    """Those of the packages beside (or around) this module."""
    return Sources(Path(__file__).resolve().parents[__name__.count(".")])


@cache
def code_version(*modules: str) -> str:
    """The digest of all that the modules depend on: what other code has made is not reused."""
    return sources().digest(*modules)
