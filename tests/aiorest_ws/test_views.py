"""Views: which handler a request reaches, and what it is called with."""

import inspect

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.exceptions import (
    IncorrectArgument,
    IncorrectMethodNameType,
    InvalidRenderer,
    MethodNotAllowed,
    NotSpecifiedMethodName,
)
from aiorest_ws.renderers import JSONRenderer, XMLRenderer
from aiorest_ws.views import (
    HandlerSignature,
    MethodBasedView,
    View,
    http_methods,
    method_word,
    signature_of,
)
from aiorest_ws.wrappers import Request

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EIGHT_WORDS = ("delete", "get", "head", "options", "patch", "post", "put", "trace")


def bind(function, values=0, arguments=None, path_names=()):
    return dict(HandlerSignature(function).bind(values, arguments or {}, path_names))


# Method words


@pytest.mark.parametrize("word", EIGHT_WORDS)
def test_the_eight_words_are_taken_in_any_case_with_blanks_around(word):
    for method in (word, word.upper(), word.title(), f" \t{word.swapcase()}\r\n"):
        assert method_word(method) == word


def test_there_are_eight_words():
    assert sorted(http_methods) == list(EIGHT_WORDS)


@pytest.mark.parametrize("method", [None, ""])
def test_a_method_is_needed(method):
    with pytest.raises(NotSpecifiedMethodName, match="not specified `method` argument"):
        method_word(method)


@pytest.mark.parametrize("method", [0, 1, 1.5, True, False, [], ["GET"], {}, b"GET"])
def test_a_method_is_a_string(method):
    with pytest.raises(IncorrectMethodNameType, match="should be a string type"):
        method_word(method)


@pytest.mark.parametrize(
    "method", [" ", "dispatch", "__init__", "get_renderer", "methods", "G ET", "GET;", "CONNECT"]
)
def test_no_other_word_is_allowed(method):
    with pytest.raises(MethodNotAllowed, match="handler not specified"):
        method_word(method)


@UNHURRIED
@given(st.text())
def test_whatever_the_word_it_is_one_of_eight_or_refused(method):
    try:
        word = method_word(method)
    except (MethodNotAllowed, NotSpecifiedMethodName):
        assert method.strip().lower() not in EIGHT_WORDS
    else:
        assert word in EIGHT_WORDS
        assert word == method.strip().lower()


# Binding


def bare(self, request): ...
def one(self, request, a): ...
def optional(self, request, a, b=2): ...
def any_positional(self, request, *rest): ...
def one_and_any(self, request, a, *rest): ...
def any_keyword(self, request, **options): ...
def keyword_only(self, request, *, a, b=2): ...
def positional_only(self, request, a, /, b=2): ...
def wants_format(self, request, format="json"): ...
def renamed(this, req, **options): ...
def swallows_everything(*everything, **options): ...
def swallows_request(self, *rest): ...


ACCEPTED = [
    (bare, 0, {}, {}),
    (bare, 0, {"format": "xml"}, {}),
    (one, 1, {}, {}),
    (one, 0, {"a": 1}, {"a": 1}),
    (one, 1, {"format": "xml"}, {}),
    (optional, 1, {"b": None}, {"b": None}),
    (optional, 2, {}, {}),
    (optional, 0, {"b": 1, "a": 2, "format": 3}, {"a": 2, "b": 1}),
    (any_positional, 0, {}, {}),
    (any_positional, 5, {}, {}),
    (one_and_any, 4, {}, {}),
    (any_keyword, 0, {"z": 1, "": 2}, {"z": 1, "": 2}),
    (any_keyword, 0, {"format": "xml"}, {"format": "xml"}),
    (keyword_only, 0, {"a": 1}, {"a": 1}),
    (keyword_only, 0, {"a": 1, "b": 3, "format": 4}, {"a": 1, "b": 3}),
    (positional_only, 1, {"b": 3}, {"b": 3}),
    (wants_format, 0, {"format": "xml"}, {"format": "xml"}),
    (swallows_everything, 3, {"z": 1}, {"z": 1}),
    (swallows_request, 3, {}, {}),
]

REFUSED = [
    (bare, 0, {"a": 1}, (), "The argument 'a' is not taken here."),
    (bare, 0, {"n" * 300: 1}, (), f"The argument '{'n' * 100}' is not taken here."),
    (one, 0, {}, (), "The argument 'a' is missing."),
    (one, 1, {"a": 1}, (), "The argument 'a' is already given by the URL."),
    (optional, 0, {"b": 1}, (), "The argument 'a' is missing."),
    (optional, 2, {"b": 1}, (), "The argument 'b' is already given by the URL."),
    # The template's own name for a value, whatever the handler calls it.
    (one, 1, {"id": 1}, ("id",), "The argument 'id' is already given by the URL."),
    (any_keyword, 0, {"id": 1}, ("id",), "The argument 'id' is already given by the URL."),
    (wants_format, 1, {"format": 1}, (), "The argument 'format' is already given by the URL."),
    (any_positional, 0, {"rest": 1}, (), "The argument 'rest' is not taken here."),
    (keyword_only, 0, {}, (), "The argument 'a' is missing."),
    (keyword_only, 0, {"b": 1}, (), "The argument 'a' is missing."),
    (positional_only, 0, {"a": 1}, (), "The argument 'a' is not taken here."),
    (any_keyword, 0, {"self": 1}, (), "The argument 'self' is reserved."),
    (any_keyword, 0, {"request": 1}, (), "The argument 'request' is reserved."),
    (any_keyword, 0, {"preferred_format": 1}, (), "The argument 'preferred_format' is reserved."),
    (renamed, 0, {"this": 1}, (), "The argument 'this' is reserved."),
    (renamed, 0, {"req": 1}, (), "The argument 'req' is reserved."),
    (renamed, 0, {"self": 1}, (), "The argument 'self' is reserved."),
]


@pytest.mark.parametrize(("function", "values", "arguments", "keywords"), ACCEPTED)
def test_arguments_that_fit_become_keywords(function, values, arguments, keywords):
    given_before = dict(arguments)
    assert bind(function, values, arguments) == keywords
    assert arguments == given_before
    function("self", "request", *["value"] * values, **keywords)


@pytest.mark.parametrize(("function", "values", "arguments", "path_names", "detail"), REFUSED)
def test_arguments_that_do_not_fit_are_refused(function, values, arguments, path_names, detail):
    with pytest.raises(IncorrectArgument) as caught:
        bind(function, values, arguments, path_names)
    assert caught.value.detail == detail
    assert caught.value.status == 400


@pytest.mark.parametrize(("function", "taken"), [(bare, 0), (one, 1), (optional, 2)])
def test_a_path_with_more_values_than_the_handler_takes_is_our_fault(function, taken):
    with pytest.raises(TypeError, match=f"{taken + 1} values, the view takes {taken}"):
        bind(function, taken + 1)


def test_a_static_handler_has_no_self():
    def handler(request, a): ...

    signature = HandlerSignature(handler, is_method=False)
    assert signature.bind(1, {}) == {}
    with pytest.raises(IncorrectArgument, match="'a' is missing"):
        signature.bind(0, {})


NAMES = ("a", "b", "c", "d", "format")


@st.composite
def handlers(draw):
    """The source of a handler of any shape, and what its parameters are."""
    names = draw(st.permutations(NAMES))
    counts = [draw(st.integers(0, 2)) for _ in range(3)]
    positional_only = names[: counts[0]]
    either = names[counts[0] : counts[0] + counts[1]]
    keyword_only = names[counts[0] + counts[1] :][: counts[2]]
    positional = [*positional_only, *either]
    defaults = draw(st.integers(0, len(positional)))
    parts = ["self", "request"]
    for index, name in enumerate(positional):
        has_default = index >= len(positional) - defaults
        parts.append(f"{name}='default'" if has_default else name)
        if positional_only and index + 1 == len(positional_only):
            parts.append("/")
    any_positional = draw(st.booleans())
    if any_positional:
        parts.append("*rest")
    elif keyword_only:
        parts.append("*")
    parts += [draw(st.sampled_from([name, f"{name}='default'"])) for name in keyword_only]
    if draw(st.booleans()):
        parts.append("**options")
    return f"def handler({', '.join(parts)}): return locals()"


@settings(UNHURRIED, max_examples=500)
@given(
    handlers(),
    st.integers(0, 5),
    st.dictionaries(st.sampled_from([*NAMES, "z"]), st.integers(), max_size=4),
)
def test_what_is_accepted_is_what_python_would_accept(source, values, arguments):
    namespace = {}
    exec(source, namespace)
    handler = namespace["handler"]
    kinds = {p.name: p.kind for p in inspect.signature(handler).parameters.values()}
    any_keyword = inspect.Parameter.VAR_KEYWORD in kinds.values()
    positional = [n for n, k in kinds.items() if k in (0, 1)][2:]
    in_path = positional[:values]
    # House rules on top of Python's: `format` is left out where nobody takes it.
    passed = dict(arguments)
    if kinds.get("format") not in (1, 3) and not any_keyword:
        passed.pop("format", None)
    call = ("self", "request", *[f"value {n}" for n in range(values)])
    try:
        keywords = HandlerSignature(handler).bind(values, arguments)
    except TypeError:
        assert values > len(positional)
        with pytest.raises(TypeError):
            handler(*call)
    except IncorrectArgument:
        # What the URL gives may not be sent again, not even where `**options` would take it.
        if not any(name in in_path for name in arguments):
            with pytest.raises(TypeError):
                handler(*call, **passed)
    else:
        assert dict(keywords) == passed
        assert handler(*call, **keywords) == handler(*call, **passed)


def test_an_argument_named_like_a_positional_only_parameter_does_not_stand_for_it():
    def handler(self, request, a, /, **options): ...

    with pytest.raises((IncorrectArgument, TypeError)):
        bind(handler, 0, {"a": 1})


# Handlers that are no plain functions


class Odd(MethodBasedView):
    @staticmethod
    def get(request, a, b=2):
        return [a, b]

    @classmethod
    def post(cls, request, a, b=2):
        return [a, b]


class Adder:
    def __call__(self, request, a, b=2):
        return [a, b]


class Callables(MethodBasedView):
    get = Adder()


@pytest.mark.parametrize("word", ["get", "post"])
def test_static_and_class_methods_are_handlers(word):
    assert Odd().dispatch(Request(word), a=1) == [1, 2]
    assert Odd().dispatch(Request(word), "v", b=3) == ["v", 3]
    with pytest.raises(IncorrectArgument, match="'a' is missing"):
        Odd().dispatch(Request(word))


def test_a_callable_object_is_a_handler():
    assert Callables.methods == ["get"]
    assert Callables().dispatch(Request("GET"), a=1) == [1, 2]


def test_a_signature_is_read_once():
    assert signature_of(Odd, "get") is signature_of(Odd, "get")
    assert signature_of(Odd, "get") is not signature_of(Odd, "post")


# Classes


class Parent(MethodBasedView):
    def get(self, request):
        return "parent"

    def helper(self):
        """No method word."""


class Child(Parent):
    trace = "no handler"

    def post(self, request):
        return "child"


def test_methods_are_the_words_that_a_class_defines():
    assert MethodBasedView.methods == []
    assert Parent.methods == ["get"]
    assert Child.methods == ["get", "post"]


def test_a_class_may_name_its_methods_itself():
    class Named(Parent):
        methods = ["get", "put"]

    assert Named.methods == ["get", "put"]


def test_methods_are_not_shared():
    assert Parent.methods is not Child.methods
    assert MethodBasedView.methods is not Parent.methods


def test_a_view_is_a_view():
    assert issubclass(MethodBasedView, View)


# dispatch


class Echo(MethodBasedView):
    def get(self, request, *values, **options):
        return request, values, options

    def put(self, request, name):
        return name


def test_dispatch_calls_the_handler_of_the_method():
    request = Request(" Get ")
    assert Echo().dispatch(request, "a", "b", key=1) == (request, ("a", "b"), {"key": 1})


def test_dispatch_leaves_out_a_format_that_the_handler_does_not_take():
    assert Echo().dispatch(Request("PUT"), "Ada", format="xml") == "Ada"
    assert Echo().dispatch(Request("GET"), format="xml")[2] == {"format": "xml"}


@pytest.mark.parametrize("method", ["POST", "dispatch", "__init__"])
def test_dispatch_refuses_a_method_that_the_view_lacks(method):
    with pytest.raises(MethodNotAllowed):
        Echo().dispatch(Request(method))


def test_dispatch_refuses_a_word_that_is_no_handler():
    with pytest.raises(MethodNotAllowed):
        Child().dispatch(Request("TRACE"))


def test_dispatch_refuses_arguments_that_do_not_fit():
    with pytest.raises(IncorrectArgument, match="'age' is not taken"):
        Echo().dispatch(Request("PUT"), "Ada", age=36)


# Renderers


class Both(MethodBasedView):
    renderers = (XMLRenderer, JSONRenderer)


class JSONOnly(MethodBasedView):
    renderers = [JSONRenderer]


@pytest.mark.parametrize(
    ("view", "preferred", "renderer"),
    [
        (MethodBasedView, None, JSONRenderer),
        (MethodBasedView, "xml", JSONRenderer),
        (Both, None, XMLRenderer),
        (Both, "xml", XMLRenderer),
        (Both, "json", JSONRenderer),
        (Both, "yaml", XMLRenderer),
        (Both, ["json"], XMLRenderer),
        (Both, 1, XMLRenderer),
        (JSONOnly, "xml", JSONRenderer),
    ],
)
def test_the_first_renderer_unless_another_one_is_asked_for(view, preferred, renderer):
    assert type(view().get_renderer(preferred)) is renderer
    assert type(view().get_renderer(preferred, "value", key=1)) is renderer


def test_an_empty_list_of_renderers_means_json():
    class Empty(MethodBasedView):
        renderers = []

    assert type(Empty().get_renderer("xml")) is JSONRenderer


def test_a_renderer_without_a_format_is_not_the_one_of_no_preference():
    class Nameless(JSONRenderer):
        format = None

    class Views(MethodBasedView):
        renderers = (JSONRenderer, Nameless)

    assert type(Views().get_renderer(None)) is JSONRenderer


@pytest.mark.parametrize("renderers", [JSONRenderer, {JSONRenderer}, "json", None, iter(())])
def test_renderers_are_a_list_or_a_tuple(renderers):
    class Wrong(MethodBasedView):
        pass

    Wrong.renderers = renderers
    with pytest.raises(InvalidRenderer):
        Wrong().get_renderer("json")
