"""Functions and classes of ``__main__`` travel to workers, and what they mean travels with them.

The promises are tested by scripts, which have a ``__main__`` as users have. The worker is a plain
child process that loads what it is sent.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import MISSING
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ungil import _core
from ungil._pickling import Encoder, classes, dumps_result, guards_hold

HARNESS = '''
"""What the scripts import."""
import atexit, marshal, os, pickle, subprocess, sys
from ungil._pickling import Encoder, guards_hold

WORKER = """
import marshal, pickle, sys, types
from ungil import _pickling
script = sys.modules["__main__"]
sys.modules["__main__"] = types.ModuleType("__main__")
namespace = _pickling.Namespace(sys.modules["__main__"])
while True:
    try:
        definitions, function, arguments = marshal.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        namespace.apply(definitions)
        function = pickle.loads(function)
        positional, keywords = pickle.loads(arguments)
        answer = True, _pickling.dumps_result(function(*positional, **keywords), None)
    except Exception as error:
        answer = False, pickle.dumps((type(error).__name__, str(error)))
    marshal.dump(answer, sys.stdout.buffer)
    sys.stdout.flush()
"""


class Failed(Exception):
    pass


class Worker:
    def __init__(self, encoder=None):
        self.encoder = encoder or Encoder()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        atexit.register(self.end)

    def end(self):
        self.process.communicate()

    def __call__(self, function, *arguments, **keywords):
        data, definitions, _ = self.encoder.dumps_function(function)
        more_data, more = self.encoder.dumps((arguments, keywords), None)
        marshal.dump((definitions + more, data, more_data), self.process.stdin)
        self.process.stdin.flush()
        ok, answer = marshal.load(self.process.stdout)
        if ok:
            return pickle.loads(answer)
        raise Failed(*pickle.loads(answer))


def guards_of(function):
    return Encoder().dumps_function(function)[2]


def names_of(function):
    return [name for name, _, _ in Encoder().dumps_function(function)[1]]


def error_of(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def same(value):
    return value
'''

Script = Callable[..., str]


@pytest.fixture
def script(run_python: Callable[..., Any], tmp_path: Path) -> Script:
    """Runs a script, which fails if an assertion of its own does; its output."""

    def run(text: str, **options: Any) -> str:
        (tmp_path / "harness.py").write_text(HARNESS)
        path = tmp_path / "script.py"
        path.write_text("from harness import *\n" + textwrap.dedent(text))
        outcome = run_python(["-W", "error", path], **options)
        assert outcome.code == 0, outcome.stderr
        return outcome.stdout

    return run


def test_a_global_set_by_the_initializer_is_not_overwritten(script: Script) -> None:
    script("""
        x = None
        items = []
        def init(value):
            global x
            x = value
            items.append("init")
        def get():
            items.append("task")
            return x, items
        worker = Worker()
        worker(init, 5)
        assert worker(get) == (5, ["init", "task"])
        assert worker(lambda: x) == 5
        assert worker(get) == (5, ["init", "task", "task"])
    """)


def test_a_change_in_the_parent_arrives_also_when_it_is_taken_back(script: Script) -> None:
    script("""
        x = 0
        def get():
            return x
        worker = Worker()
        for value in (1, 2, 1, 1, "1", 1):
            x = value
            assert worker(get) == value
        x = [1]
        assert worker(get) == [1]
        x.append(2)
        assert worker(get) == [1, 2]
        def get():
            return "new"
        assert worker(get) == "new"
    """)


def test_a_definition_keeps_its_id_as_long_as_its_content(script: Script) -> None:
    script("""
        import abc, dataclasses, enum, functools, typing
        class Point(typing.Generic[typing.TypeVar("T")]):
            x: int = 1
            def double(self): return Point(), [each for each in {"a", "b", "c"}]
        @dataclasses.dataclass
        class Data:
            a: "int" = 0
            b: list = dataclasses.field(default_factory=list)
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class Color(enum.Flag):
            RED = 1
            BLUE = 2
        names = {"one", "two", "three"}
        @functools.wraps(len)
        def function(a: Point, *, b=Color.RED):
            return Point, Data, Base, Color, names
        encoder = Encoder()
        first = encoder.dumps_function(function)[:2]
        assert {name for name, _, _ in first[1]} >= {"Point", "Data", "Base", "Color", "names"}
        import copy, pickle
        for value in (Point(), Data(), Color.RED, Color.RED | Color.BLUE, ~Color.RED):
            encoder.dumps(value, None)
            pickle.dumps(value)
            copy.copy(value)
        Point.__annotations__, Data.__annotations__, function.__annotations__
        isinstance(3, Base)
        assert encoder.dumps_function(function)[:2] == first
    """)


def test_classes_keep_their_identity_both_ways(script: Script) -> None:
    script("""
        class Point:
            def __init__(self, x):
                self.x = x
            def moved(self, by):
                return Point(self.x + by)
            @classmethod
            def make(cls, x): return cls(x)
            @staticmethod
            def text(x): return str(x)
            @property
            def double(self): return 2 * self.x
            class Inner:
                pass
        kept = []
        def move(point, by):
            kept.append(point)
            assert all(type(each) is Point for each in kept)
            return point.moved(by)
        worker = Worker()
        point = worker(move, Point(1), 2)
        assert type(point) is Point and point.x == 3
        point = worker(move, point, 2)
        assert type(point) is Point and point.double == 10
        assert worker(point.moved, 1).x == 6
        assert type(worker(Point.make, 1)) is Point
        assert worker(Point.text, 1) == "1"
        assert worker(lambda each: each.double, point) == 10
        assert type(worker(Point.Inner)) is Point.Inner
        assert type(worker(same, Point.Inner())) is Point.Inner
        assert worker(same, Point) is Point
        assert worker(same, move) is move
        assert worker(same, [point.moved])[0].__self__.x == 5
    """)


def test_a_class_that_is_defined_again_replaces_the_old_one(script: Script) -> None:
    script("""
        def cell(text):
            exec(text, globals())
        cell("class Point:\\n    def name(self): return 'old'")
        old = Point()
        def name(): return Point().name()
        worker = Worker()
        assert worker(name) == "old"
        cell("class Point:\\n    def name(self): return 'new'")
        assert worker(name) == "new"
        assert type(worker(Point)) is Point is not type(old)
        assert "not the same object" in str(error_of(pickle.dumps, old))
        assert worker(lambda: (old.name(), Point().name())) == ("old", "new")
    """)


def test_a_class_that_changes_stays_the_same_one(script: Script) -> None:
    script("""
        class Point:
            def name(self): return "old"
            def gone(self): return 1
        kept = []
        def keep(point):
            kept.append(point)
            return [(each.name(), type(each) is Point, hasattr(each, "gone")) for each in kept]
        worker = Worker()
        assert worker(keep, Point()) == [("old", True, True)]
        Point.name = lambda self: "new"
        del Point.gone
        assert worker(keep, Point()) == [("new", True, False)] * 2
    """)


def test_inheritance_and_super_work(script: Script) -> None:
    script("""
        import abc
        class Base(abc.ABC):
            def __init__(self, a): self.a = a
            @abc.abstractmethod
            def f(self): ...
        class Middle(Base):
            def __init__(self, a): super().__init__(a + offset)
            def f(self): return 1
        class Last(Middle):
            def f(self): return super().f() + 1, isinstance(self, Base), __class__ is Last
        class Plugin:
            known = []
            def __init_subclass__(cls, *, key):
                cls.known.append((key, cls))
        class Plugged(Plugin, key="k"):
            pass
        class Checked:
            def __init_subclass__(cls, *, key): cls.key = key
        class Checks(Checked, key="c"):
            pass
        class Virtual:
            pass
        Base.register(Virtual)
        offset = 10
        worker = Worker()
        last = worker(Last, 1)
        assert type(last) is Last and last.a == 11
        assert worker(last.f) == (2, True, True)
        assert worker(lambda: Plugin.known == [("k", Plugged)])
        assert worker(lambda: (Plugged.__bases__, Checks.__bases__)) == ((Plugin,), (Checked,))
        def later():
            class Later(Checked, key="later"): pass
            return Checks.key, Later.key
        assert worker(later) == ("c", "later")
        assert worker(lambda: isinstance(Virtual(), Base))
        assert Plugin.known == [("k", Plugged)]
        error = error_of(worker, Base, 1)
        assert error.args[0] == "TypeError" and "abstract" in error.args[1]
    """)


def test_recursion_and_mutual_recursion_work(script: Script) -> None:
    script("""
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def local():
            def down(n): return 0 if n == 0 else down(n - 1)
            return down
        class Node:
            default = None
            def link(self): return Node.default.next is Leaf
        class Leaf(Node):
            pass
        Node.default = Node()
        Node.default.next = Node.kind = Leaf
        def first(other=None): return "first"
        def second(other=first): return other(), first.__defaults__[0]()
        def third(): return "third"
        first.__defaults__ = (third,)
        third.back = first
        worker = Worker()
        assert worker(factorial, 5) == 120
        assert worker(even, 10) and not worker(odd, 10)
        assert worker(local(), 3) == 0
        assert worker(Node().link)
        assert worker(Leaf().link)
        assert worker(lambda: (Node.kind is Leaf, type(Node.default) is Node)) == (True, True)
        assert worker(lambda: Leaf.__bases__ == (Node,))
        assert worker(second) == ("first", "third")
        assert worker(lambda: third.back()) == "first"
    """)


def test_a_cycle_has_the_same_definitions_whichever_end_is_asked_for(script: Script) -> None:
    script("""
        class A: pass
        class B(A): pass
        class C(B): pass
        A.known = [B, C]
        encoder = Encoder()
        first = dict((name, (number, blob)) for name, number, blob in encoder.dumps(C(), None)[1])
        for value in (A(), B(), C(), [B, A]):
            for name, *rest in encoder.dumps(value, None)[1]:
                assert first[name] == tuple(rest)
        worker = Worker(encoder)
        assert worker(lambda: (A.known == [B, C], C.__mro__[:3] == (C, B, A))) == (True, True)
    """)


def test_what_makes_classes_for_people_works(script: Script) -> None:
    script("""
        import collections, dataclasses, enum, typing
        T = typing.TypeVar("T")
        Id = typing.NewType("Id", int)
        class Color(enum.Enum):
            RED = 1
            GREEN = 2
            ROT = 1
            def low(self): return self.name.lower()
        class Planet(enum.Enum):
            EARTH = (1, 2)
            def __init__(self, mass, radius): self.mass = mass
        class Permission(enum.IntFlag):
            READ = 1
            WRITE = 2
            BOTH = 3
        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class Frozen:
            a: int
            b: list = dataclasses.field(default_factory=list)
        @dataclasses.dataclass
        class Data:
            a: int = 1
            color: Color = Color.RED
        Pair = collections.namedtuple("Pair", "x y", defaults=[3])
        class Named(typing.NamedTuple):
            a: int
            b: str = "b"
            def both(self): return self.a, self.b
        class Typed(typing.TypedDict):
            a: int
        class Box(typing.Generic[T]):
            def __init__(self, value: T) -> None: self.value = value
        class Slots:
            __slots__ = ("__private", "public")
            def __init__(self): self.__private, self.public = 1, 2
            def sum(self): return self.__private + self.public
        class Shown(typing.Protocol):
            def show(self) -> str: ...
        def make():
            return [
                Color.GREEN, Color.ROT, Planet.EARTH, Permission.BOTH, Frozen(1), Data(), Pair(1),
                Named(1), Typed(a=1), Box(1), Box[int](1), Slots(), Id(3), Id, T, Shown,
            ]
        def look(color, planet, frozen, data, pair, named, slots):
            assert color is Color.RED is Color.ROT and color.low() == "red"
            assert list(Color.__members__) == ["RED", "GREEN", "ROT"]
            assert planet is Planet.EARTH and planet.mass == 1
            assert frozen == Frozen(2, [3]) > Frozen(1) and not hasattr(frozen, "__dict__")
            assert dataclasses.fields(data)[0].default_factory is dataclasses.MISSING
            assert dataclasses.replace(data, a=4) == Data(4, Color.RED)
            assert pair == Pair(5, 3) and pair._replace(x=1).x == 1
            assert named.both() == (6, "b")
            assert slots.sum() == 3 and not hasattr(slots, "__dict__")
            assert Box.__parameters__ == (T,)
        worker = Worker()
        values = make()
        made = worker(make)
        for value, other in zip(values, made, strict=True):
            assert type(value) is type(other)
            assert isinstance(value, (Box, Slots)) or value == other
        assert made[0] is Color.GREEN and made[1] is Color.RED
        assert made[-3] is Id and made[-2] is T
        worker(look, Color.RED, Planet.EARTH, Frozen(2, [3]), Data(), Pair(5), Named(6), Slots())
    """)


def test_what_decorates_functions_works(script: Script) -> None:
    script("""
        import contextlib, functools
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*arguments): return function(*arguments) + offset
            return wrapper
        @decorate
        def plain(a: int = 1) -> int:
            "Documented."
            return a
        @functools.lru_cache(maxsize=3)
        def cached(a): return a + offset
        class Lazy:
            @functools.cached_property
            def value(self): return offset
            @functools.cache
            def method(self): return 3
            @decorate
            def decorated(self): return 5
        @contextlib.contextmanager
        def context(): yield offset
        def within():
            with context() as value:
                return value
        add = functools.partial(int.__add__, 2)
        offset = 1
        def default(function=plain, *, more=cached): return function(1) + more(1)
        def about(): return plain.__name__, plain.__doc__, plain.__wrapped__(7)
        def counted():
            return cached(1), cached(1), cached.cache_info().hits >= 1, cached.__wrapped__(2)
        worker = Worker()
        assert worker(plain, 4) == 5
        assert worker(about) == ("plain", "Documented.", 7)
        assert worker(cached, 4) == 5
        assert worker(counted) == (2, 2, True, 3)
        assert worker(same, cached) is cached
        assert worker(lambda: (Lazy().value, Lazy().method(), Lazy().decorated())) == (1, 3, 6)
        assert worker(within) == 1
        assert worker(add, 1) == 3
        assert worker(functools.partial(plain, 2)) == 3
        assert worker(lambda: add(5)) == 7
        assert worker(default) == 4
        offset = 2
        assert worker(default) == 5  # the worker's cache lives as long as what is cached
    """)


def test_a_changed_closure_is_never_stale(script: Script) -> None:
    script("""
        def make():
            count = 0
            def get(): return count, shared()
            def add():
                nonlocal count
                count += 1
                return count
            def shared(): return count
            return get, add
        get, add = make()
        worker = Worker()
        assert worker(get) == (0, 0)
        add()
        assert worker(get) == (1, 1)
        # Cells are shared within one pickle.
        assert worker(lambda pair: (pair[1](), pair[0]()), (get, add)) == (2, (2, 2))
        def task(): return get()
        assert worker(task) == (1, 1)
        add()
        assert worker(task) == (2, 2)
    """)


def test_modules_and_what_is_imported_from_them_work(script: Script) -> None:
    script("""
        import numpy as np
        import os.path
        import xml
        import xml.dom.minidom
        from collections import Counter, deque as queue
        from math import sqrt
        def norm(a): return float(np.linalg.norm(np.array([a, 0.0])))
        def parse():
            def inner(): return xml.dom.minidom.parseString("<a/>").documentElement.tagName
            return inner()
        def count(text):
            class Local:
                name = sqrt
            return Counter(text)["a"], queue([1]).pop(), Local.name(4), os.path.basename("a/b")
        def fresh():
            import sys
            return "xml.dom.minidom" in sys.modules
        worker = Worker()
        assert not worker(fresh)
        assert worker(norm, 2) == 2.0
        assert worker(parse) == "a"
        assert worker(count, "banana") == (3, 1, 2.0, "b")
        array = worker(same, np.arange(3))
        assert array.tolist() == [0, 1, 2] and array.flags.writeable
    """)


def test_a_name_that_the_worker_cannot_import_only_fails_where_it_is_used(script: Script) -> None:
    script("""
        import json
        json.__spec__, json.__name__ = None, "no_such_module_anywhere"
        sys.modules["no_such_module_anywhere"] = json
        def named(use): return json.dumps(1) if use else "unused"
        worker = Worker()
        assert worker(named, False) == "unused"
        kind, message = error_of(worker, named, True).args
        assert kind == "RuntimeError" and "'json'" in message and "ModuleNotFound" in message
    """)


def test_a_global_that_cannot_be_pickled_fails_only_where_it_is_used(script: Script) -> None:
    script("""
        import threading
        lock = threading.Lock()
        file = open(__file__)
        class Holder:
            def __init__(self): self.lock = lock
        holder = Holder()
        def use(how):
            if how == "not": return "fine"
            if how == "with":
                with lock: pass
            elif how == "call": lock()
            elif how == "attribute": holder.lock
            elif how == "set": holder.lock = 1
            elif how == "iter": list(file)
            elif how == "add": lock + 1
            elif how == "radd": 1 + lock
            elif how == "index": file[0]
            elif how == "bool": bool(lock)
            elif how == "equal": lock == 1
            elif how == "isinstance": isinstance(holder, dict)
            elif how == "return": return lock
        worker = Worker()
        assert worker(use, "not") == "fine"
        for how in "with call attribute set iter add radd index bool equal isinstance return".split():
            kind, message = error_of(worker, use, how).args
            assert kind == "RuntimeError", (how, kind, message)
            assert any(f"'{name}' of __main__" in message for name in ("lock", "file", "holder"))
            assert "cannot pickle" in message and "initializer" in message, message
            assert "inside the function" in message
        file.close()
    """)


def test_a_class_with_an_attribute_that_cannot_be_pickled_lacks_only_that(script: Script) -> None:
    script("""
        import threading
        class Base:
            def __init__(self): self.a = 1
        class Locked(Base):
            lock = threading.Lock()
            limit = 3
            def __init__(self):
                super().__init__()
                self.b = self.limit
            def use(self):
                with self.lock: pass
        worker = Worker()
        made = worker(Locked)
        assert type(made) is Locked and (made.a, made.b) == (1, 3)
        assert worker(same, made).b == 3
        kind, message = error_of(worker, made.use).args
        assert kind == "RuntimeError" and "'Locked.lock' of __main__" in message
        assert isinstance(Locked.lock, type(threading.Lock()))
    """)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_parameters_work(script: Script) -> None:
    script("""
        type Alias = int | Box
        class Box[T]:
            def get(self, value: T) -> Alias: return value
        class Child[T](Box[T]): pass
        def first[T](value: T) -> T: return value
        worker = Worker()
        assert worker(first, 1) == 1
        assert worker(Child[int]().get, 2) == 2
        assert type(worker(Child)) is Child
        assert worker(same, Alias) is Alias
        assert worker(lambda: (Alias.__name__, Alias)) == ("Alias", Alias)
    """)


def test_what_the_initializer_made_is_kept_where_the_parents_cannot_be_pickled(
    script: Script,
) -> None:
    script("""
        import threading
        lock = threading.Lock()
        def init():
            globals()["lock"] = "made by the initializer"
        def use(): return lock
        def init_too():
            global lock
            lock = "made by the other"
        worker = Worker()
        worker(init)
        assert worker(use) == "made by the initializer"
        worker = Worker()
        worker(init_too)
        assert worker(use) == "made by the other"
        lock = "sent by the parent"
        assert worker(use) == "sent by the parent"
    """)


def test_arguments_that_cannot_be_pickled_raise_what_the_stdlib_raises(script: Script) -> None:
    script("""
        import io, threading
        class Holder:
            def __init__(self, held): self.held = held
        def task(lock=threading.Lock()): pass
        encoder = Encoder()
        stream = io.TextIOWrapper(io.BytesIO())
        for value in (
            threading.Lock(), Holder(threading.Lock()), (i for i in ()), sys._getframe(), stream,
            memoryview(b""),
        ):
            expected = error_of(pickle.dumps, value)
            for got in (error_of(encoder.dumps, value, None), error_of(encoder.dumps_function, value)):
                assert type(got) is type(expected) and str(got) == str(expected), got
        for got in (
            error_of(encoder.dumps, task, None),
            error_of(encoder.dumps_function, task),
        ):
            assert type(got) is TypeError and "lock" in str(got), got
        captured = threading.Lock()
        def outer():
            inside = captured
            return lambda: inside
        got = error_of(encoder.dumps, outer(), None)
        assert type(got) is type(error_of(pickle.dumps, outer())), got
        assert "lock" in str(got.__cause__)
    """)


def test_a_lambda_of_an_importable_module_sees_its_live_globals(
    script: Script, tmp_path: Path
) -> None:
    (tmp_path / "library.py").write_text(
        textwrap.dedent("""
            state = "imported"
            task = lambda: state
            def change(value):
                global state
                state = value
            def make(more): return lambda: (state, more())
            def local():
                class Local:
                    def get(self): return state
                return Local()
        """)
    )
    script("""
        import library
        x = 1
        worker = Worker()
        library.change("the parent's, which does not travel")
        assert worker(library.task) == "imported"
        worker(library.change, "changed in the worker")
        assert worker(library.task) == "changed in the worker"
        assert worker(library.make(lambda: x)) == ("changed in the worker", 1)
        assert worker(library.local().get) == "changed in the worker"
        assert worker(lambda: library.task()) == "changed in the worker"
    """)


def test_a_function_with_globals_of_nobody_takes_them_along(script: Script) -> None:
    script("""
        space = {"__name__": "nowhere", "base": 3}
        exec("def f(n): return base if n == 0 else f(n - 1)", space)
        worker = Worker()
        assert worker(space["f"], 2) == 3
        space["base"] = 4
        assert worker(space["f"], 2) == 4
    """)


def test_results_of_local_classes_and_functions_come_back(script: Script) -> None:
    script("""
        x = "the parent's"
        def make():
            class Local:
                def get(self): return x
                def kind(self): return __class__
            return Local
        Local = make()
        get = Local.get
        def elsewhere():
            class Other:
                def get(self): return x
            return Other(), Other(), lambda: x
        worker = Worker()
        local = worker(same, Local())
        assert type(local) is Local and Local.get is get
        assert worker(local.kind) is Local and Local.get is get
        one, two, function = worker(elsewhere)
        assert type(one) is type(two) and one.get() == x == function()
        x = "changed"
        assert one.get() == "changed" == function()
        assert type(worker(same, one)) is type(one)
        error = error_of(worker, eval, "(i for i in ())").args
        assert error == ("TypeError", "cannot pickle 'generator' object")
    """)


def test_python_m_works_with_relative_imports(
    script: Script, run_python: Callable[..., Any], tmp_path: Path
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sibling.py").write_text("value = 3\n")
    (package / "program.py").write_text(
        textwrap.dedent("""
            from harness import Worker
            class Point:
                pass
            def task():
                from . import sibling
                from .sibling import value
                return sibling.value + value, Point()
            assert __spec__ is not None
            number, point = Worker()(task)
            assert number == 6 and type(point) is Point
        """)
    )
    (tmp_path / "harness.py").write_text(HARNESS)
    outcome = run_python(["-W", "error", "-m", "package.program"], cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr


def test_a_repl_works(run_python: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text(HARNESS)
    text = textwrap.dedent("""
        from harness import *
        worker = Worker()
        x = 1
        def get(): return x

        class Point:
            def get(self): return get()

        print(worker(get), type(worker(Point)) is Point)
        x = 2
        print(worker(Point().get), worker(lambda: x + 1))
        def get(): return x * 10

        print(worker(Point().get))
    """)
    outcome = run_python(["-W", "error", "-i", "-q"], cwd=tmp_path, stdin=text)
    assert outcome.stdout.split() == ["1", "True", "2", "3", "20"], outcome.stderr


def test_names_used_by_code_are_needed_and_no_others(script: Script) -> None:
    script("""
        a = b = c = d = e = 1
        data = print_me = None
        class Local: pass
        def f(thing):
            class Inner:
                value = a
                def g(self): return [b for _ in range(3)]
            thing.data.e
            return lambda: c
        def annotated(x: Local) -> "d": pass
        assert sorted(names_of(f)) == ["a", "b", "c", "f"]
        assert sorted(names_of(annotated)) == ["Local", "annotated"]
        assert names_of(len) == names_of(same) == names_of(pickle.dumps) == []
        assert sorted(names_of(lambda: (a, f))) == ["a", "b", "c", "f"]
        # Far enough for the bytecode to need wider arguments.
        text = "def wide():\\n    return " + ", ".join(f"name_{i}" for i in range(600))
        exec(text, globals())
        name_1 = name_255 = name_256 = name_599 = 0
        assert sorted(names_of(wide)) == ["name_1", "name_255", "name_256", "name_599", "wide"]
    """)


def test_definitions_come_after_what_they_need(script: Script) -> None:
    script("""
        LIMIT = 3
        class Key:
            def __init__(self, n): self.n = n
            def __hash__(self): return hash(self.n) + OFFSET
            def __eq__(self, other): return self.n == other.n
            def table(self): return TABLE
        OFFSET = 5
        TABLE = {Key(1): "one"}
        class Child(Key): pass
        def task(): return TABLE[Child(1)]
        worker = Worker()
        assert worker(task) == "one"
        assert worker(Key(1).table)[Key(1)] == "one"
    """)


def test_an_importable_function_is_guarded_by_nothing() -> None:
    encoder = Encoder()
    for function in (os.path.join, textwrap.dedent, len, dict, textwrap.TextWrapper):
        data, definitions, guards = encoder.dumps_function(function)
        assert pickle.loads(data) is function
        assert (definitions, guards) == ((), [])


def test_guards_hold_until_something_changes(script: Script) -> None:
    script("""
        import functools, math, types
        import os, xml
        x, names = 1, ("a", frozenset({"b"}))
        def helper(a, b=(1, 2), *, c="c"): return a
        def make(value): return lambda: value
        closure = make(1)
        class Base: pass
        class Point(Base):
            __slots__ = ("v",)
            z: int = 1
            def get(self): return x
            @classmethod
            def make(cls): return undefined
            @staticmethod
            def text(): return closure()
            @property
            def double(self): return 2
        @functools.wraps(helper)
        def wrapped(*a): return helper(*a)
        def task(p: Point | None = None, q: "list[int]" = ()) -> tuple[int, Point]:
            return x, names, helper, closure, Point, wrapped, math.sqrt, os, len

        changes = 0
        def assert_breaks(change, *, then_none=False):
            global changes
            changes += 1
            guards = guards_of(task)
            assert guards is not None, changes
            assert guards_hold(guards), changes
            assert guards_of(task) is not None and guards_hold(guards), changes
            change()
            assert not guards_hold(guards), changes
            assert (guards_of(task) is None) == then_none, changes

        def set_global(name, value):
            return lambda: globals().update({name: value})
        def set_cell(): closure.__closure__[0].cell_contents = 2
        assert_breaks(set_global("x", 2))
        assert_breaks(set_global("x", None))
        assert_breaks(set_global("x", "text"))
        assert_breaks(set_global("names", ("c",)))
        assert_breaks(lambda: setattr(helper, "__defaults__", (3,)))
        assert_breaks(lambda: setattr(helper, "__kwdefaults__", {"c": "d"}))
        assert_breaks(lambda: helper.__kwdefaults__.update(c="e"))
        assert_breaks(lambda: setattr(helper, "__code__", (lambda a, b, *, c: 0).__code__))
        assert_breaks(lambda: setattr(helper, "mark", 1))
        assert_breaks(lambda: setattr(helper, "mark", 2))
        assert_breaks(lambda: setattr(task, "__defaults__", None))
        assert_breaks(lambda: setattr(task, "__qualname__", "other") or setattr(task, "__qualname__", "".join("task")))
        assert_breaks(set_cell)
        assert_breaks(set_global("closure", make(3)))
        assert_breaks(lambda: setattr(Point, "added", lambda self: 1))
        assert_breaks(lambda: setattr(Point, "added", 3))
        assert_breaks(lambda: setattr(Point, "z", 3))
        assert_breaks(lambda: setattr(Base, "more", 3))
        assert_breaks(lambda: setattr(Point.get, "__defaults__", (1,)))
        assert_breaks(set_global("undefined", None))
        assert_breaks(set_global("undefined", 3))
        assert_breaks(lambda: setattr(Point.make.__func__, "__defaults__", (1,)))
        assert_breaks(lambda: setattr(Point, "make", classmethod(lambda cls: 2)))
        assert_breaks(lambda: setattr(Point.text, "__defaults__", (1,)))
        assert_breaks(lambda: setattr(Point.double.fget, "__defaults__", (1,)))
        assert_breaks(lambda: delattr(Point, "added"))
        assert_breaks(set_global("len", sum))
        assert_breaks(set_global("Base", type("Base", (), {})))
        assert_breaks(set_global("helper", make(3)))
        assert_breaks(set_global("x", [1]), then_none=True)
        x = 1
        assert_breaks(lambda: setattr(Point, "z", {1: 2}), then_none=True)
        Point.z = {}
        assert_breaks(lambda: Point.z.update(a=1), then_none=True)
        Point.z = 1
        assert_breaks(lambda: setattr(helper.__class__ and task, "__kwdefaults__", {}))
        names = ([],)
        assert_breaks(lambda: names[0].append(1), then_none=True)
        names = Point(), # an instance
        assert guards_of(task) is None
    """)


def test_guards_of_dataclasses_and_enumerations(script: Script) -> None:
    script("""
        import dataclasses, enum
        def helper(): return 1
        class Kind: pass
        @dataclasses.dataclass(order=True)
        class Point:
            x: int
            y: "float" = 1.0
            z: list = dataclasses.field(default_factory=list)
            k: type = Kind
            def norm(self): return helper()
        class Color(enum.IntFlag):
            RED = 1
            BLUE = enum.auto()
            @property
            def text(self): return helper()
            @classmethod
            def first(cls): return cls.RED
        class Shape(str, enum.Enum):
            LINE = "line"
            @enum.property
            def text(self): return helper()
        def task(): return Point, Color, Shape

        worker = Worker()
        worker(task)
        # Making what is cached, in the parent as in the worker, changes nothing.
        Point(1).norm(), repr(Point(2)), Color.RED | Color.BLUE, Shape("line").text
        def assert_breaks(change, *, then_none=False):
            guards = guards_of(task)
            assert guards is not None and guards_hold(guards)
            change()
            assert not guards_hold(guards)
            assert (guards_of(task) is None) == then_none
        fields = Point.__dataclass_fields__
        assert_breaks(lambda: setattr(fields["y"], "default", 2.0))
        assert_breaks(lambda: setattr(fields["z"], "default_factory", dict))
        assert_breaks(lambda: setattr(fields["x"], "type", str))
        assert_breaks(lambda: setattr(Kind, "more", 1))
        assert_breaks(lambda: fields.pop("k"))
        assert_breaks(lambda: setattr(Point, "norm", helper))
        assert_breaks(lambda: setattr(Color.text.fget, "__defaults__", (1,)))
        assert_breaks(lambda: setattr(vars(Shape)["text"].fget, "__doc__", "a"))
        assert_breaks(lambda: setattr(Color.BLUE, "_value_", 4))
        assert_breaks(lambda: setattr(Shape, "more", 1))
        assert_breaks(lambda: setattr(Color.BLUE, "mark", 4), then_none=True)
    """)


def test_definitions_of_arguments_are_the_same_until_something_changes(script: Script) -> None:
    script("""
        import dataclasses, enum
        LIMIT = 1
        @dataclasses.dataclass
        class Point:
            x: int
            def limited(self): return min(self.x, LIMIT)
        class Color(enum.Enum):
            RED = 1
        listed = [1]
        class Loose:
            def get(self): return listed
        encoder = Encoder()
        worker = Worker(encoder)
        def kept(*arguments):
            data, definitions, is_kept = encoder.dumps_arguments((arguments, {}), None)
            assert (data, definitions) == encoder.dumps((arguments, {}), None)
            return definitions if is_kept else None
        def limited(point): return point.limited()

        before = kept(Point(1))
        assert sorted(each[0] for each in before) == ["LIMIT", "Point"]
        assert kept(Point(2)) is kept([Point(3), Point(4)]) is before
        assert worker(limited, Point(5)) == 1
        LIMIT = 3
        changed = kept(Point(1))
        assert changed is not before and changed != before
        assert worker(limited, Point(5)) == 3
        Point.limited = lambda self: -1
        assert kept(Point(1)) is not changed
        assert worker(limited, Point(5)) == -1
        # What nothing can guard is written down every time, and so it is never stale.
        assert kept(Loose()) is None
        assert worker(lambda loose: loose.get(), Loose()) == [1]
        listed.append(2)
        assert worker(lambda loose: loose.get(), Loose()) == [1, 2]
        assert [each[0] for each in kept(Color.RED, Color)] == ["Color"]
        assert kept(1, "main__", "__main__") == () or kept(1, "__main__") is None
        assert encoder.dumps(("__main__", [object]), None)[1] == ()
    """)


def test_arguments_that_plain_pickle_would_change(script: Script) -> None:
    script("""
        import dataclasses, weakref
        class Point:
            def __hidden(self): return 42
            def get(self): return self.__hidden
            def __init__(self, x=None): self.x = x
        worker = Worker()
        for _ in range(2):
            assert worker(lambda method: method(), Point().get()) == 42
            assert worker(
                lambda point: point.x is __import__("dataclasses").MISSING, Point(dataclasses.MISSING)
            )
            assert worker(lambda point: type(point.x).__name__, Point(Point(1))) == "Point"
        import cloudpickle, types
        # Of a module that travels by value, also beside what is of the script.
        module = types.ModuleType("mine")
        exec("class Thing:\\n    pass", module.__dict__)
        sys.modules["mine"] = module
        cloudpickle.register_pickle_by_value(module)
        assert worker(lambda point: type(point.x).__name__, Point(module.Thing())) == "Thing"
    """)


def test_guards_know_submodules_that_are_imported_later(script: Script) -> None:
    script("""
        import xml
        def task(): return xml.dom.__name__
        guards = guards_of(task)
        assert guards_hold(guards)
        worker = Worker()
        assert error_of(worker, task).args[0] == "AttributeError"
        import xml.dom
        assert not guards_hold(guards)
        assert worker(task) == "xml.dom"
    """)


def test_what_can_change_unnoticed_has_no_guards(script: Script) -> None:
    script("""
        import enum, functools, abc
        listed, mapped, thing = [1], {1: 2}, object()
        class Color(enum.Enum):
            RED = [1]
        class Register(enum.EnumType): pass
        class Shade(enum.Enum, metaclass=Register):
            RED = 1
        class Marked(enum.Enum):
            RED = 1
        Marked.RED.mark = 1
        class Base(abc.ABC): pass
        class Point:
            def get(self): pass
        def one(): return listed
        def two(): return mapped
        def three(): return thing
        def four(): return one
        def five(a=[1]): pass
        def six(): return (1, (mapped,))
        def seven(): return Color
        def shaded(): return Shade
        def marking(): return Marked
        def eight(): return Base
        def outer(): return lambda: 1
        class Holding: held = [1]
        bound = [].append
        def nine(): return bound
        marked = lambda: 1
        marked.list = [1]
        def ten(): return marked
        for function in (
            one, two, three, four, five, six, seven, shaded, marking, eight, lambda: 1, outer(), Holding, nine, ten,
            Point().get, functools.partial(outer), functools.partial(os.path.join, "a"), str.join,
        ):
            assert guards_of(function) is None, function
        assert guards_of(outer) is not None and guards_of(Point) is not None
    """)


def test_real_forks_get_only_what_is_new(script: Script) -> None:
    script("""
        x, y = object(), [1]
        def get(): return x, y
        encoder = Encoder()
        before = [name for name, _, _ in encoder.dumps_function(get)[1]]
        assert sorted(before) == ["get", "x", "y"]
        encoder = Encoder()
        encoder.snapshot()
        old = x
        assert encoder.dumps_function(get)[1] == ()
        assert pickle.loads(encoder.dumps_function(get)[0]) is get
        x = 5
        assert [name for name, _, _ in encoder.dumps_function(get)[1]] == ["x"]
        x = old  # a worker has 5 by now
        assert [name for name, _, _ in encoder.dumps_function(get)[1]] == ["x"]
        def new(): return get()
        assert sorted(name for name, _, _ in encoder.dumps_function(new)[1]) == ["new", "x"]
        assert [name for name, _, _ in encoder.dumps(lambda: (y, x), None)[1]] == ["x"]
    """)


def test_several_threads_may_pickle_at_once(script: Script) -> None:
    script("""
        import threading
        class Point: pass
        def get(): return Point, x
        x = 1
        encoder = Encoder()
        found = set()
        def work():
            for _ in range(30):
                found.add(encoder.dumps_function(get)[1])
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert len(found) == 1
    """)


def test_importing_the_module_imports_no_more_than_pickle() -> None:
    code = """if True:
        import pickle, sys, textwrap
        before = set(sys.modules)
        import ungil._pickling
        from ungil._pickling import Encoder, Namespace, dumps_result
        at = set(sys.modules)
        Encoder().dumps_function(textwrap.dedent), Encoder().dumps((1, [2]), None)
        dumps_result({}, None)
        print(*sorted(at - before))
        print(*sorted(set(sys.modules) - at))
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    package = "classes encoder guards loading names pickler"
    parts = [f"ungil._pickling.{part}" for part in package.split()]
    expected = " ".join(["__future__", "gc", "ungil", "ungil._pickling", *parts])
    assert ran.stdout.splitlines() == [expected, ""]


class Buffers:
    """Takes all buffers out of band."""

    def __init__(self) -> None:
        self.buffers: list[pickle.PickleBuffer] = []
        self.resets = 0
        self.saw_readonly = False
        self.saw_shared = False

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        self.buffers.append(buffer)
        self.saw_readonly |= buffer.raw().readonly
        return False

    def reset(self) -> None:
        self.buffers.clear()
        self.resets += 1
        self.saw_readonly = False


def test_arrays_travel_out_of_band_unless_they_are_read_only() -> None:
    import numpy as np

    array = np.arange(1000)
    for dumps in (lambda value, to: Encoder().dumps(value, to)[0], dumps_result):
        # What is not a plain value is pickled by another way.
        for more in (None, "__main__", lambda: 1):
            buffers = Buffers()
            array.flags.writeable = True
            data = dumps((array, more), buffers)
            assert len(data) < 4000
            assert len(buffers.buffers) == 1
            loaded, _ = pickle.loads(data, buffers=buffers.buffers)
            assert loaded.base is not None
            assert (loaded == array).all()

            buffers = Buffers()
            array.flags.writeable = False
            data = dumps((array, more), buffers)
            assert not buffers.buffers
            assert buffers.resets >= 1
            loaded, _ = pickle.loads(data)
            assert loaded.flags.writeable
            assert (loaded == array).all()


def test_a_result_that_cannot_be_pickled_raises_the_first_error() -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        dumps_result([lock], None)
    with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
        dumps_result(lambda: lock, None)
    assert "lock" in str(caught.value.__cause__)
    assert pickle.loads(dumps_result(lambda: 3, None))() == 3


@pytest.mark.parametrize("check", [guards_hold, lambda guards: _core.Guards(guards).hold()])
def test_guards_can_be_checked_one_by_one(check: Callable[[Any], bool]) -> None:
    space = {"a": 1}
    assert check([(0, space, "a", space["a"]), (4, space, "b", None)])
    assert not check([(4, space, "a", None)])
    assert not check([(0, space, "b", None)])
    assert check([(3, space, None, 1)])
    assert not check([(3, space, None, 0)])
    assert not check([(0, space, "a", 2)])
    assert not check([(0, space, "a", None)])
    assert check([(1, os, "path", os.path), (2, os, None, len(os.__dict__))])
    assert not check([(1, os, "path", None)])
    assert not check([(1, os, "no_such", None)])
    assert not check([(2, os, None, 1)])


def globals_in(data: bytes) -> set[tuple[str, str]]:
    """What a pickle looks up, by the standard library's account of it."""
    found: set[tuple[str, str]] = set()
    texts: list[str] = []
    memo: list[str] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "STACK_GLOBAL":
            found.add((texts[-2], texts[-1]))
            texts.append("")
        elif operation.name == "MEMOIZE":
            memo.append(texts[-1])
        elif operation.name in {"BINGET", "LONG_BINGET"}:
            texts.append(memo[argument])
        elif operation.name != "FRAME":
            texts.append(argument if isinstance(argument, str) else "")
    return found


class Global:
    """A global of ``__main__`` that reduces itself to its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.__module__ = "__main__"

    def __reduce__(self) -> str:
        return self.name


@pytest.mark.parametrize(
    "names", [(), ("one",), ("one", "two", "two", "one"), tuple(f"name_{n}" for n in range(300))]
)
@pytest.mark.parametrize(
    "value",
    [
        None,
        ["__main__", "one", b"__main__", "two"],
        ["x" * 300, "ü" * 70_000, 1 << 70, 1 << 3000, -1, 2.5, 70_000, 300, True],
        [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], {}, [*range(2000)], {1: {2: 3}}],
        [{1, 2}, frozenset({3}), bytearray(b"abc"), b"x" * 300, *(f"{n}" for n in range(300))],
        [1j, slice(1, 2), range(3), Decimal("1.5"), date(2000, 1, 1), OrderedDict(a=1), Path("/")],
    ],
    ids=range(6),
)
@pytest.mark.parametrize("protocol", [4, 5])
def test_globals_of_main_are_found_in_pickles(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], value: object, protocol: int
) -> None:
    things = []
    for name in names:
        things.append(Global(name))
        monkeypatch.setattr(sys.modules["__main__"], name, things[-1], raising=False)
    things = [getattr(sys.modules["__main__"], name) for name in names]
    data = pickle.dumps([things[:1], value, things, value], protocol)
    expected = {name for module, name in globals_in(data) if module == "__main__"}
    assert expected == set(names)
    found = _core.main_globals(data)
    assert found == tuple(dict.fromkeys(names))
    for end in range(0, len(data), 1 + len(data) // 50):
        assert _core.main_globals(data[:end]) is None


@pytest.mark.parametrize(
    "value",
    [[].append, "a".join, MISSING, Path("/").exists],
    ids=["list", "str", "missing", "path"],
)
def test_pickles_that_may_mean_something_else_are_told(value: object) -> None:
    assert _core.main_globals(pickle.dumps(value, 5)) is None
    assert _core.main_globals(pickle.dumps([value], 2)) is None


def test_threads_that_meet_the_first_class_together_have_one_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Or a class that one of them has made would be another one for the next.
    both = threading.Barrier(2, timeout=30)

    class Slow(classes._Classes):
        def __init__(self) -> None:
            both.wait()
            super().__init__()

    monkeypatch.setattr(classes, "_registry", None)
    monkeypatch.setattr(classes, "_Classes", Slow)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(classes._classes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] is found[1]
