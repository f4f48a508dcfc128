"""`override_settings` in each of its forms, and that it leaves nothing behind."""

import asyncio
import functools
import inspect
import unittest
from concurrent.futures import ThreadPoolExecutor

import pytest
from twisted.internet.defer import Deferred, inlineCallbacks

from aiorest_ws.conf import settings
from aiorest_ws.test.utils import override_settings


def run_coroutine(coroutine):
    """Run to the end in a thread: the reactor's loop counts as running in this one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def values():
    return settings.COMPACT_JSON, getattr(settings, "ADDED", "absent")


UNTOUCHED = (True, "absent")
CHANGED = (False, 1)


@pytest.fixture(autouse=True)
def _nothing_stays_behind():
    assert values() == UNTOUCHED
    before = {name: getattr(settings, name) for name in dir(settings)}
    yield
    assert {name: getattr(settings, name) for name in dir(settings)} == before


def override():
    return override_settings(COMPACT_JSON=False, ADDED=1)


def test_block_changes_adds_and_restores():
    with override():
        assert values() == CHANGED
    assert values() == UNTOUCHED
    assert "ADDED" not in dir(settings)


def test_block_restores_after_an_exception():
    with pytest.raises(KeyError), override():
        raise KeyError
    assert values() == UNTOUCHED


def test_blocks_nest():
    with override_settings(ADDED=1):
        with override_settings(ADDED=2, COMPACT_JSON=False):
            assert values() == (False, 2)
        assert values() == (True, 1)


def test_one_instance_can_be_entered_again():
    again = override()
    with again:
        with again:
            assert values() == CHANGED
        assert values() == CHANGED
    assert values() == UNTOUCHED


def test_what_the_block_itself_does_to_an_overridden_setting_is_undone():
    with override():
        settings.COMPACT_JSON = "other"
        del settings.ADDED
    assert values() == UNTOUCHED
    with override_settings(COMPACT_JSON=False):
        del settings.COMPACT_JSON
    assert values() == UNTOUCHED


def test_the_very_object_comes_back():
    config = settings.REST_CONFIG
    with override_settings(REST_CONFIG={}):
        assert settings.REST_CONFIG == {}
    assert settings.REST_CONFIG is config


@pytest.mark.parametrize("name", ["compact_json", "Mixed", "_HIDDEN"])
def test_only_names_of_settings_are_taken(name):
    with pytest.raises(TypeError, match="only upper-case names"):
        override_settings(**{name: 1})


def test_only_functions_and_classes_are_decorated():
    with pytest.raises(TypeError, match="decorates functions and classes"):
        override()("text")


def test_function():
    @override()
    def function(a, *, b):
        """Say what."""
        return a, b, values()

    assert function(1, b=2) == (1, 2, CHANGED)
    assert (function.__name__, function.__doc__) == ("function", "Say what.")
    assert values() == UNTOUCHED


def test_function_that_raises():
    @override()
    def function():
        raise KeyError

    with pytest.raises(KeyError):
        function()


def test_coroutine_function():
    @override()
    async def function(a):
        await asyncio.sleep(0)
        return a, values()

    assert inspect.iscoroutinefunction(function)
    coroutine = function(1)
    assert values() == UNTOUCHED
    assert run_coroutine(coroutine) == (1, CHANGED)


def test_coroutines_of_one_function_overlap():
    @override()
    async def function(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
            assert values() == CHANGED

    async def main():
        await asyncio.gather(function(1), function(3), function(2))

    run_coroutine(main())
    assert values() == UNTOUCHED


def test_generator_function():
    @override()
    def generator():
        got = yield values()
        yield got, values()

    items = generator()
    assert values() == UNTOUCHED
    assert next(items) == CHANGED
    assert items.send("sent") == ("sent", CHANGED)
    items.close()
    assert values() == UNTOUCHED


def test_async_generator_function():
    closed = []

    @override()
    async def generator():
        try:
            yield values()
            yield values()
        finally:
            closed.append(values())

    async def main():
        items = generator()
        first = await anext(items)
        await items.aclose()
        return first, [item async for item in generator()]

    assert run_coroutine(main()) == (CHANGED, [CHANGED, CHANGED])
    assert closed == [CHANGED, CHANGED]


@pytest.mark.parametrize("fails", [False, True])
def test_function_that_returns_a_deferred(fails):
    waited = Deferred()

    @override()
    @inlineCallbacks
    def function():
        yield waited
        if fails:
            raise KeyError
        return values()

    result = function()
    assert values() == CHANGED
    waited.callback(None)
    assert values() == UNTOUCHED
    if fails:
        result.addErrback(lambda failure: failure.trap(KeyError) and KeyError)
    got = []
    result.addCallback(got.append)
    assert got == [KeyError if fails else CHANGED]


def run_case(case):
    """Run every test of a TestCase class; return how many ran, and what went wrong."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result.testsRun, [text for _, text in result.failures + result.errors]


def test_case_has_the_values_from_first_to_last():
    seen = {}

    @override()
    class Case(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            seen["setUpClass"] = (cls.__name__, values())

        @classmethod
        def tearDownClass(cls):
            seen["tearDownClass"] = (cls.__name__, values())

        def setUp(self):
            self.addCleanup(lambda: seen.update(cleanup=values()))
            seen["setUp"] = values()

        def tearDown(self):
            seen["tearDown"] = values()

        def test_it(self):
            seen["test"] = values()

    assert run_case(Case) == (1, [])
    assert seen == {
        "setUpClass": ("Case", CHANGED),
        "tearDownClass": ("Case", CHANGED),
        **dict.fromkeys(["setUp", "test", "tearDown", "cleanup"], CHANGED),
    }
    assert values() == UNTOUCHED
    seen.clear()
    Case("test_it").debug()
    assert seen == dict.fromkeys(["setUp", "test", "tearDown", "cleanup"], CHANGED)


@pytest.mark.parametrize("place", ["setUp", "test_it", "tearDown", "setUpClass"])
def test_case_that_fails_leaves_nothing_behind(place):
    def fail(self_or_cls):
        raise KeyError

    methods = {"test_it": lambda self: None}
    methods[place] = classmethod(fail) if place == "setUpClass" else fail
    case = override()(type("Case", (unittest.TestCase,), methods))
    _, problems = run_case(case)
    assert len(problems) == 1
    assert "KeyError" in problems[0]
    assert values() == UNTOUCHED


def test_case_with_coroutines():
    seen = []

    @override()
    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            seen.append(values())

        async def test_it(self):
            await asyncio.sleep(0)
            seen.append(values())

    with ThreadPoolExecutor(max_workers=1) as thread:  # it starts a loop of its own
        assert thread.submit(run_case, Case).result() == (1, [])
    assert seen == [CHANGED, CHANGED]


def test_innermost_value_and_subclass_win_in_cases():
    seen = {}

    @override_settings(ADDED="base", COMPACT_JSON=False)
    class Base(unittest.TestCase):
        def test_base(self):
            seen[type(self).__name__, "base"] = values()

        @override_settings(ADDED="method")
        def test_method(self):
            seen[type(self).__name__, "method"] = values()

    @override_settings(ADDED="sub")
    class Sub(Base):
        def test_sub(self):
            seen[type(self).__name__, "sub"] = values()

    class Plain(Base):
        pass

    for case in (Base, Sub, Plain):
        assert run_case(case)[1] == []
    assert seen == {
        ("Base", "base"): (False, "base"),
        ("Base", "method"): (False, "method"),
        ("Sub", "base"): (False, "sub"),
        ("Sub", "method"): (False, "method"),
        ("Sub", "sub"): (False, "sub"),
        ("Plain", "base"): (False, "base"),
        ("Plain", "method"): (False, "method"),
    }


def test_of_two_decorators_the_inner_one_wins():
    @override_settings(ADDED="outer", COMPACT_JSON=False)
    @override_settings(ADDED="inner")
    def function():
        return values()

    @override_settings(ADDED="outer", COMPACT_JSON=False)
    @override_settings(ADDED="inner")
    class Tests:
        def test_it(self):
            return values()

    assert function() == Tests().test_it() == (False, "inner")


def test_plain_class():
    @override()
    class Tests:
        test_data = "not a method"

        def setup_method(self, method):
            return values()

        def test_it(self):
            return self.help(), values()

        async def test_async(self):
            return values()

        @classmethod
        def test_class(cls):
            return cls.__name__, values()

        @staticmethod
        def test_static():
            return values()

        def help(self):
            return values()

    tests = Tests()
    assert tests.setup_method(None) == CHANGED
    assert tests.test_it() == (CHANGED, CHANGED)
    assert run_coroutine(tests.test_async()) == CHANGED
    assert tests.test_class() == ("Tests", CHANGED)
    assert tests.test_static() == CHANGED
    assert tests.help() == UNTOUCHED
    assert tests.test_data == "not a method"


def test_subclass_of_a_plain_class_wins_and_its_base_is_left_alone():
    @override_settings(ADDED="base", COMPACT_JSON=False)
    class Base:
        def test_it(self):
            return values()

    @override_settings(ADDED="sub")
    class Sub(Base):
        pass

    assert Base().test_it() == (False, "base")
    assert Sub().test_it() == (False, "sub")


def test_decorators_of_others_are_kept():
    def doubled(function):
        @functools.wraps(function)
        def call(self):
            return function(self) * 2

        return call

    @override_settings(ADDED="base")
    class Base:
        def test_it(self):
            return values()

    Base.test_it = doubled(Base.test_it)

    @override_settings(COMPACT_JSON=False)
    class Sub(Base):
        pass

    assert Sub().test_it() == (False, "base") * 2


@override()
class TestUnderPytestWithHookArguments:
    """Hooks may ask for what they are called for."""

    @classmethod
    def setup_class(cls):
        cls.seen = [values()]

    @classmethod
    def teardown_class(cls):
        assert values() == CHANGED

    def setup_method(self, method):
        self.seen.append((method.__name__, values()))

    def test_it(self):
        assert self.seen == [CHANGED, ("test_it", CHANGED)]


@override()
class TestUnderPytest:
    """Pytest itself runs these, with its own setup and arguments."""

    def setup_method(self):
        self.seen = values()

    def test_pytest_gives_fixtures(self, tmp_path):
        assert tmp_path.is_dir()
        assert self.seen == values() == CHANGED

    @pytest.mark.parametrize("number", [1, 2])
    def test_pytest_gives_parameters(self, number):
        assert number in {1, 2}
        assert values() == CHANGED
