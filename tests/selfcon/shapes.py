"""Shape checks of tensors in tests: every tensor of selfcon must have the shape in its name.

`z_RED` has three dimensions, and within a call all R are equal; a digit is a size (`boxes_N4`), and an X at
the end means any dimensions (`x_RX`). Every `return` of a function checks the variables of the function,
including lists and tuples of tensors. Installed by conftest.py before the modules with tensors are imported;
the package itself contains no checks.
"""

import ast
import importlib.abc
import importlib.machinery
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

PACKAGE = "selfcon"
_SHAPE = re.compile(r"_([A-Z][A-Z0-9]*)$")


def install() -> None:
    """Add shape checks to every module of the package that is imported later."""
    sys.meta_path.insert(0, _Finder())


def check_shapes(place: str, variables: Mapping[str, object]) -> None:
    """Raise `AssertionError` for the first variable whose shape differs from its name."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, shape in _shapes(variables):
        letters = name.rpartition("_")[2]
        known = letters.removesuffix("X")
        if len(shape) < len(known) or (known == letters and len(shape) > len(known)):
            raise AssertionError(f"{place}: {name} has shape {list(shape)}")
        for letter, size in zip(known, shape, strict=False):
            expected, source = sizes.setdefault(letter, (size, name))
            if letter.isdigit():
                expected, source = int(letter), "its name"
            if size != expected:
                raise AssertionError(f"{place}: {letter} is {size} in {name} but {expected} in {source}")


def _shapes(variables: Mapping[str, object]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of each tensor whose name has shape letters."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for name, value in variables.items():
        if _SHAPE.search(name):
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, torch.Tensor):
                    yield name, tuple(item.shape)


class _Finder(importlib.abc.MetaPathFinder):
    """Finder that delegates to the other finders, and loads source files of the package with `_Loader`."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec), None)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile the source with checks each time, so that it is never cached in a file."""
        tree = ast.parse(self.get_data(self.path), self.path)
        checked = ast.fix_missing_locations(_Returns(fullname).visit(tree))
        return compile(checked, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["_CHECK_SHAPES_"] = check_shapes
        super().exec_module(module)


class _Returns(ast.NodeTransformer):
    """Insert a check between the evaluation of the value of each `return` and the return."""

    def __init__(self, module: str) -> None:
        self._module = module

    def visit_Return(self, node: ast.Return) -> Any:
        place = f"{self._module}:{node.lineno}"
        value = node.value or ast.Constant(None)
        result = ast.Assign([ast.Name("_RESULT_", ast.Store())], value)
        call = ast.parse(f"_CHECK_SHAPES_({place!r}, locals())").body[0]
        returned = ast.Return(ast.Name("_RESULT_", ast.Load()))
        return [ast.copy_location(part, node) for part in (result, call, returned)]
