"""The rooms stand on each other in the order that docs/architecture.md gives, and in no other."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import influcoder

PACKAGE = Path(influcoder.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
LONGEST = 300
STILL_LONG = ("data/layouts.py", "model/rendering.py")
FILES = sorted(PACKAGE.rglob("*.py"))


class Import(NamedTuple):
    importer: str  # modules, without the package's own name; "" is the package itself
    imported: str
    when_loaded: bool  # False inside a function


def floors_of(page):
    """{room: its floor, 0 at the top}, as the page's block lists them."""
    block = re.search(r"```floors\n(.*?)\n```", page, re.DOTALL)
    return {room: floor for floor, line in enumerate(block[1].splitlines()) for room in line.split()}


def module_of(path, package):
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imports_of(package):
    """Every import of the package's own modules, but for those that only a type checker meets."""
    modules = {module_of(path, package): path for path in package.rglob("*.py")}
    found = []
    for importer, path in modules.items():
        for node, when_loaded in statements(ast.parse(path.read_text(encoding="utf-8"))):
            for name in names_in(node, package.name):
                while name not in modules:  # the last part is something that the module holds
                    name = name.rpartition(".")[0]
                found.append(Import(importer, name, when_loaded))
    return found


def statements(node, when_loaded=True):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, when_loaded
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(child, when_loaded and not inside)


def names_in(node, package):
    if isinstance(node, ast.Import):
        names = [one.name for one in node.names]
    else:
        assert not node.level, f"{ast.unparse(node)}: imports are absolute"
        names = [f"{node.module}.{one.name}" for one in node.names]
    return [name.removeprefix(package).lstrip(".") for name in names if name.split(".")[0] == package]


def upward(imports, floors):
    """Imports between rooms that do not go down; the package itself and `__main__` stand above all."""

    def floor(module):
        room = module.split(".")[0]
        return -1 if room in ("", "__main__") else floors[room]

    between = [one for one in imports if one.importer.split(".")[0] != one.imported.split(".")[0]]
    return [one for one in between if floor(one.imported) <= floor(one.importer)]


def circle(imports):
    """A circle of modules that load each other, or nothing."""
    graph = {}
    for one in imports:
        if one.when_loaded and one.importer != one.imported:
            graph.setdefault(one.importer, set()).add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_every_room_has_a_floor():
    rooms = {module_of(path, PACKAGE).split(".")[0] for path in FILES} - {"", "__main__"}
    assert rooms == floors_of(PAGE).keys()


def test_imports_go_down():
    assert upward(imports_of(PACKAGE), floors_of(PAGE)) == []


def test_no_modules_import_each_other():
    assert circle(imports_of(PACKAGE)) is None


def test_rooms_export_nothing():
    """A room's `__init__` says what the room is for."""
    held = {module_of(path, PACKAGE): ast.parse(path.read_text()).body for path in PACKAGE.rglob("*/__init__.py")}
    assert [room for room, body in held.items() if room != "cli" and len(body) != 1] == []


@pytest.mark.parametrize("name", [str(path.relative_to(PACKAGE)) for path in FILES])
def test_files_are_short_and_begin_with_what_they_are_for(name):
    text = (PACKAGE / name).read_text(encoding="utf-8")
    assert text.startswith('"""')
    if name in STILL_LONG:
        pytest.xfail("to be split")
    assert len(text.splitlines()) <= LONGEST


@pytest.mark.parametrize("section", ["An example", "A query", "A newcomer's ten changes"])
def test_the_page_names_files_that_are_there(section):
    text = re.search(rf"## {section}.*?(?=\n## |\Z)", PAGE, re.DOTALL)[0]
    paths = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    assert paths
    assert [path for path in paths if not (PACKAGE / path).exists()] == []


def changes_of(page):
    """[(paths, names)] that each row of the table of changes gives."""
    rows = re.findall(r"^\| (?:add|change) .*", page, re.MULTILINE)
    spans = [re.findall(r"`([^`]+)`", row.split("|")[3]) for row in rows]
    paths = [[span for span in row if span.endswith(".py")] for row in spans]
    return [(there, set(row) - set(there)) for there, row in zip(paths, spans, strict=True)]


def test_what_a_change_touches_is_in_the_files_that_are_named():
    changes = [(paths, names) for paths, names in changes_of(PAGE) if paths]
    assert len(changes) >= 9
    for paths, names in changes:
        text = "".join((PACKAGE / path).read_text(encoding="utf-8") for path in paths)
        assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []


# What these tests can find


FLOORS = {"cli": 0, "left": 1, "right": 1, "store": 2, "errors": 3}
SOUND = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made_up.cli import main",
    "__main__.py": "from made_up.cli import main",
    "cli/__init__.py": "from made_up.left.tree import Tree\nfrom made_up.right import leaf\nmain = leaf",
    "left/__init__.py": "",
    "left/tree.py": "import numpy\nfrom made_up.errors import Wrong\nfrom made_up.left.twig import Twig\nTree = Twig",
    "left/twig.py": "def twig():\n    from made_up.left.tree import Tree\nTwig = None",
    "right/__init__.py": "",
    "right/leaf.py": "import made_up.store.shelf",
    "store/__init__.py": "",
    "store/shelf.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made_up.cli import main",
    "errors.py": "class Wrong: ...",
}


@pytest.fixture
def made_up(tmp_path):
    def package(**more):
        for name, text in (SOUND | more).items():
            path = tmp_path / "made_up" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return imports_of(tmp_path / "made_up")

    return package


def test_a_sound_package_passes(made_up):
    imports = made_up()
    assert Import("left.twig", "left.tree", False) in imports
    assert Import("cli", "right.leaf", True) in imports
    assert len(imports) == 7
    assert upward(imports, FLOORS) == []
    assert circle(imports) is None


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("from made_up.cli import main", "cli"),
        ("import made_up.right.leaf", "right.leaf"),
        ("def late():\n    from made_up.left import tree", "left.tree"),
        ("class Held:\n    def late(self):\n        from made_up.left.tree import Tree", "left.tree"),
        ("try:\n    from made_up import left\nexcept ImportError:\n    pass", "left"),
        ("from made_up import Tree", ""),
        ("from made_up.__main__ import main", "__main__"),
    ],
)
def test_an_upward_import_is_found(made_up, text, imported):
    imports = made_up(**{"store/shelf.py": text})
    assert [(one.importer, one.imported) for one in upward(imports, FLOORS)] == [("store.shelf", imported)]


def test_an_import_of_a_neighbour_on_the_same_floor_is_found(made_up):
    imports = made_up(**{"right/leaf.py": "from made_up.left.tree import Tree"})
    assert [one.imported for one in upward(imports, FLOORS)] == ["left.tree"]


def test_a_circle_is_found(made_up):
    imports = made_up(**{"left/twig.py": "from made_up.left.tree import Tree\nTwig = Tree"})
    assert upward(imports, FLOORS) == []
    assert set(circle(imports)) == {"left.tree", "left.twig"}


def test_a_relative_import_is_refused(made_up):
    with pytest.raises(AssertionError, match="imports are absolute"):
        made_up(**{"left/twig.py": "from .tree import Tree"})


def test_the_block_is_read_from_top_to_bottom():
    assert floors_of("text\n```floors\ncli\nleft right\nerrors\n```\n") == {
        "cli": 0,
        "left": 1,
        "right": 1,
        "errors": 2,
    }
