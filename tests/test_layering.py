"""The layers of the package: who may import what, and what runs without Django."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import realtime_ticket
from tests.imports import modules_of, names_imported
from tests.processes import python

PACKAGE = Path(realtime_ticket.__file__).parent
PROJECT = PACKAGE.parent

DRIVERS = {"redis", "pymemcache", "psycopg", "psycopg2", "MySQLdb", "sqlite3",
           "django_redis"}  # fmt: skip
LEVELS = {
    0: ["exceptions", "tickets", "handshake", "logs", "outages", "revocations"],
    1: ["backends", "backends.base", "batching", "journal", "journal_reader",
        "listener", "live", "outbox", "replies", "service", "watches"],
    2: ["backends.*", "models", "migrations", "migrations.*", "testing"],
    3: ["conf", "signals", "signal_queue", "signalling"],
    4: ["shortcuts", "lazy", "views", "urls", "middleware", "context_processors",
        "checks", "reports", "doctor", "apps", "management", "management.*",
        "templatetags", "templatetags.*", "admin", "disconnects", "receivers",
        "sessions"],
    5: ["integrations", "integrations.*", ""],
}  # fmt: skip
"""Each module by its layer. It imports from its own and those above it."""

THIRD_PARTIES = {
    "asgiref": {
        "batching",
        "disconnects",
        "service",
        "shortcuts",
        "testing",
        "integrations.*",
    },
    "redis": {
        "backends.redis",
        "backends.redis_sentinel",
        "backends.redis_cluster",
        "backends._redis_exchange",
        "backends._redis_nodes",
        "backends._redis_options",
        "backends._redis_pool",
        "backends._redis_request",
        "backends._redis_diagnosis",
    },
    "pymemcache": {"backends.memcached"},
}
"""The modules that may import a package other than Django."""

WITHOUT_DJANGO = ["", "exceptions", "tickets", "handshake", "logs", "outages",
                  "revocations", "batching", "journal", "journal_reader", "listener",
                  "live", "outbox", "replies", "service", "watches", "testing",
                  "backends", "backends.base", "backends.redis",
                  "backends.redis_sentinel", "backends.redis_cluster",
                  "backends.memcached", "backends.locmem", "integrations",
                  "integrations.asgi"]  # fmt: skip
UNCONFIGURABLE = ("admin", "models", "migrations.")
"""Modules that need configured Django to be imported, as anywhere."""


def dotted(module: str) -> str:
    return f"realtime_ticket.{module}".rstrip(".")


MODULES = {
    name.removeprefix("realtime_ticket").removeprefix("."): path
    for name, path in modules_of(PACKAGE).items()
}
IMPORTABLE = [m for m in MODULES if not m.startswith(UNCONFIGURABLE)]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda m: m or "__init__")


def matches(module: str, pattern: str) -> bool:
    return module == pattern or (
        pattern.endswith(".*") and module.startswith(pattern[:-1])
    )


def level_of(module: str) -> int:
    """Return the layer of a module: the one that names it best."""
    names = [(name, level) for level, names in LEVELS.items() for name in names]
    for name, level in names:
        if module == name:
            return level
    return next(level for name, level in names if matches(module, name))


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def running(node: ast.AST, *, in_functions: bool = True) -> Iterator[ast.AST]:
    """Walk the tree, past what only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if not in_functions and isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef)
        ):
            continue
        yield from running(child, in_functions=in_functions)


def imports_of(module: str, *, in_functions: bool = True) -> set[str]:
    """Return the absolute names of the modules that this one imports."""
    nodes = running(tree_of(module), in_functions=in_functions)
    known = {*map(dotted, MODULES)}
    return names_imported(nodes, dotted(module), MODULES[module], known)


def own_imports(module: str) -> set[str]:
    """Return the modules of this package that this one imports."""
    return {
        name.removeprefix("realtime_ticket").removeprefix(".")
        for name in imports_of(module)
        if name.split(".")[0] == "realtime_ticket"
    }


def foreign_imports(module: str, *, in_functions: bool = True) -> set[str]:
    """Return the packages, other than this one and Python's own, that it imports."""
    roots = {n.split(".")[0] for n in imports_of(module, in_functions=in_functions)}
    return roots - sys.stdlib_module_names - {"realtime_ticket"}


IMPORT = """
import importlib, json, os, sys, traceback

without_django, importable = json.loads(sys.argv[1])

def imports(name, without=None):
    reader, writer = os.pipe()
    if not os.fork():
        try:
            if without:
                sys.modules[without] = None
            importlib.import_module(name)
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as end:
        return end.read()

wrong = {"without Django": {name: imports(name, "django") for name in without_django}}
assert "django" not in sys.modules and "realtime_ticket" not in sys.modules
for name in importable:
    importlib.import_module(name)
from django.conf import settings
assert not settings.configured
# What other packages there are is loaded now, of ours nothing.
for name in [name for name in sys.modules if name.split(".")[0] == "realtime_ticket"]:
    del sys.modules[name]
wrong["first"] = {name: imports(name) for name in importable}
print(json.dumps(wrong))
"""
"""Import modules, each in a fork, and print the traceback of those that cannot be."""


@pytest.fixture(scope="module")
def imported() -> dict[str, dict[str, str]]:
    """Give the traceback, or "", of the import of each module, in one process."""
    names = [[*map(dotted, WITHOUT_DJANGO)], [*map(dotted, IMPORTABLE)]]
    result = python(IMPORT, json.dumps(names))
    assert result.returncode == 0, result.stderr
    found: dict[str, dict[str, str]] = json.loads(result.stdout)
    return found


def test_the_scan_sees_imports() -> None:
    """The helpers of this module find what is known to be there."""
    assert own_imports("service") == {
        "tickets", "backends.base", "batching", "exceptions", "journal", "listener",
        "logs", "outages", "outbox", "replies", "revocations",
    }  # fmt: skip
    assert "backends.base" in own_imports("backends.redis")
    assert foreign_imports("backends.redis") == {"redis"}
    assert "django" in foreign_imports("backends._memory_checks")
    assert "django" not in foreign_imports("backends.locmem", in_functions=False)


@every_module
def test_every_module_has_a_layer(module: str) -> None:
    """A new module is given its place here, on purpose."""
    assert level_of(module) in LEVELS


def test_the_page_for_contributors_has_the_layers() -> None:
    """In its table, each with its modules."""
    page = (PROJECT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*?) \| ", page, re.MULTILINE)
    shown = {int(level): re.findall(r"`(.*?)`", names) for level, names in rows}
    assert shown == {
        level: [name or "realtime_ticket" for name in names]
        for level, names in LEVELS.items()
    }


@every_module
def test_modules_import_from_their_layer_and_those_above(module: str) -> None:
    """Nothing knows of what is built on it."""
    below = {name for name in own_imports(module) if level_of(name) > level_of(module)}
    assert not below


@pytest.mark.parametrize("module", [m for m in MODULES if level_of(m) == 0])
def test_the_core_needs_python_alone(module: str) -> None:
    """L0 imports the standard library and itself."""
    assert not foreign_imports(module)
    assert {level_of(name) for name in own_imports(module)} <= {0}


@pytest.mark.parametrize("module", [m for m in MODULES if level_of(m) <= 1])
def test_the_service_knows_neither_django_nor_a_store(module: str) -> None:
    """L1 imports no Django, no driver and no concrete backend."""
    assert foreign_imports(module) <= {"asgiref"}
    assert not {n for n in own_imports(module) if n.startswith("backends.")} - {
        "backends.base"
    }


@pytest.mark.parametrize("module", [m for m in MODULES if matches(m, "backends.*")])
def test_backends_know_nothing_of_each_other(module: str) -> None:
    """L2 imports the base, exceptions, private helpers, and what it is a kind of."""
    neighbours = {
        name
        for name in own_imports(module)
        if name.startswith("backends.") and not name.startswith("backends._")
    }
    parent, _, kind = module.rpartition("_")
    assert neighbours <= {"backends.base", parent if kind else "backends.base"}


@every_module
def test_drivers_are_the_backends_own(module: str) -> None:
    """A driver is imported by its backend and by nobody else."""
    for package in foreign_imports(module) - {"django"}:
        allowed = THIRD_PARTIES.get(package, set())
        assert any(matches(module, name) for name in allowed), package


@pytest.mark.parametrize("module", [m for m in MODULES if level_of(m) >= 4])
def test_the_django_side_names_no_store(module: str) -> None:
    """L4 imports no backend and no driver, and holds no dotted path of one."""
    assert not foreign_imports(module) & DRIVERS
    assert not {n for n in own_imports(module) if n.startswith("backends.")} - {
        "backends.base"
    }
    texts = [
        node.value
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in texts if "realtime_ticket.backends" in text]


@every_module
def test_settings_are_read_in_one_place(module: str) -> None:
    """conf alone reads a setting of this package."""
    if module == "conf":
        pytest.skip("this is the place")
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("REALTIME_TICKET_")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            assert "REALTIME_TICKET_" not in ast.unparse(node.args[1])


@every_module
def test_nothing_is_read_from_settings_at_import(module: str) -> None:
    """No module looks at Django's settings outside of a function."""
    for node in running(tree_of(module), in_functions=False):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "settings", ast.unparse(node)


def test_the_promise_of_the_readme() -> None:
    """The service and its Redis backend do not load Django."""
    result = python(
        "from realtime_ticket import TicketService; "
        "from realtime_ticket.backends.redis import RedisBackend; "
        "import sys; assert 'django' not in sys.modules"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", WITHOUT_DJANGO, ids=lambda m: m or "__init__")
def test_some_modules_load_no_django(
    module: str, imported: dict[str, dict[str, str]]
) -> None:
    """What a realtime process uses runs where Django is not even installed."""
    assert imported["without Django"][dotted(module)] == ""


def test_a_process_without_django_can_consume() -> None:
    """By both doors, and with a backend that has checks for manage.py."""
    result = python(
        "import asyncio, sys; sys.modules['django'] = None\n"
        "from realtime_ticket import TicketService\n"
        "from realtime_ticket.backends.locmem import LocMemBackend\n"
        "service = TicketService(LocMemBackend())\n"
        "one, two = (service.issue({'id': 7, 'username': 'ada'}) for _ in 'ab')\n"
        "assert service.consume(one.value) == one\n"
        "assert asyncio.run(service.aconsume(two.value)) == two\n"
        "service.close()\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_core_is_all_there() -> None:
    """L0 and what runs without Django are found, so the tests above are not idle."""
    lowest = {module for module in MODULES if level_of(module) == 0}
    assert lowest == {
        "exceptions", "tickets", "handshake", "logs", "outages", "revocations"
    }  # fmt: skip
    assert set(WITHOUT_DJANGO) <= MODULES.keys()


def test_everything_imports_without_settings(
    imported: dict[str, dict[str, str]],
) -> None:
    """Every module but the model's can be imported before Django is configured."""
    assert imported["first"].keys() == set(map(dotted, IMPORTABLE))


@pytest.mark.parametrize("module", IMPORTABLE, ids=lambda m: m or "__init__")
def test_modules_do_not_depend_on_an_order(
    module: str, imported: dict[str, dict[str, str]]
) -> None:
    """Each can be the first of ours to be imported: there is no circle."""
    assert imported["first"][dotted(module)] == ""


def test_an_import_that_fails_is_seen() -> None:
    """In its fork, of a module that is not there, and of one that needs Django."""
    names = [["realtime_ticket.views"], ["realtime_ticket.conf"]]
    broken = IMPORT.replace("imports(name)", 'imports(name + "x")')
    result = python(broken, json.dumps(names))
    found = json.loads(result.stdout)
    assert "ModuleNotFoundError" in found["without Django"]["realtime_ticket.views"]
    assert "ModuleNotFoundError" in found["first"]["realtime_ticket.conf"]
