"""Tests mirror the tree: what is wrong in a module is found in the file of its name."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("common", "client", "server", "simulation", "pneumofed")
SHARE = 0.95


def does_something(module: Path) -> bool:
    """Whether it has a function with a body: re-exports, constants and mere declarations have nothing to test."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = [part for part in node.body if not isinstance(part, (ast.Expr, ast.Pass))]
            if body or any(
                isinstance(part, ast.Expr) and not isinstance(part.value, ast.Constant) for part in node.body
            ):
                return True
    return False


def home_of_tests(module: Path) -> Path:
    """client/x/y.py -> tests/client/x/test_y.py; a package's own code -> tests/client/x/test_x.py."""
    inside = module.relative_to(ROOT)
    name = inside.parent.name if inside.name == "__init__.py" else inside.stem
    return ROOT / "tests" / inside.parent / f"test_{name}.py"


def has_tests(path: Path) -> bool:
    return path.is_file() and "def test_" in path.read_text(encoding="utf-8")


def test_nearly_every_module_has_the_tests_of_its_name():
    modules = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if does_something(path)]
    missing = [str(path.relative_to(ROOT)) for path in modules if not has_tests(home_of_tests(path))]
    share = 1 - len(missing) / len(modules)
    assert len(modules) > 100
    assert share >= SHARE, f"{share:.1%} of modules have tests of their name; without: {', '.join(missing)}"


def test_what_does_nothing_is_told_from_what_does(tmp_path):
    for text, does in (
        ('"""Doc."""\nfrom a import b\n__all__ = ["b"]\n', False),
        ("class A:\n    x: int = 1\n", False),
        ('class P:\n    def f(self) -> int:\n        """Doc."""\n        ...\n', False),
        ("def f():\n    return 1\n", True),
        ("class A:\n    def f(self):\n        print(1)\n", True),
    ):
        (tmp_path / "m.py").write_text(text)
        assert does_something(tmp_path / "m.py") is does
