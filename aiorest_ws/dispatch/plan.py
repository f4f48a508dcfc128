"""What the calls of a route need, by method: settled at the first one, compiled where possible."""

from collections.abc import Mapping, Sequence
from operator import is_not
from typing import Any, NamedTuple

from aiorest_ws.auth.guard import access, is_guarded
from aiorest_ws.awaiting import PLAIN_TYPES, is_awaitable
from aiorest_ws.awaiting import take as take_steps
from aiorest_ws.dispatch.declared import route_errors
from aiorest_ws.dispatch.route_table import RouteTable, normalize_path
from aiorest_ws.dispatch.routes import BoundHandler, CallResult, Route
from aiorest_ws.dispatch.scopes import Equipment, Scope
from aiorest_ws.dispatch.success import has_default_renderer
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.wrappers import Response

__all__ = (
    "Plan",
    "Plans",
    "Unfinished",
    "Unplanned",
    "names_set_by",
    "responding",
)

# The URLs that were requested last are remembered with their plans: at most so many, of at most
# this length. Together they take at most 2 MB.
MAX_REMEMBERED_URLS = 4096
MAX_REMEMBERED_URL_LENGTH = 128

# A subclass of these may match in its own way.
_INDEXED = (PlainEndpoint, DynamicEndpoint)

# Whether a response is another than it was made, but for what it echoes.
TOUCHED = (
    "response.status is not None or response._content is not content"
    " or len(content) != size or content.get('data', content) is not answer"
    " or 'event_name' not in content or ('id' in content) is (request.id is None)"
)


class Unplanned(Exception):
    """A call is not made by its plan: the middlewares have changed, a key is reserved."""


class Unfinished(NamedTuple):
    """A call whose stages have been passed up to `position`; see `aiorest_ws.dispatch.stages`.

    `waiting` is what the last one has returned, which may be awaited. `error` is what it raised.
    A call that has a `response` has `answer` from its view.
    """

    position: int
    waiting: Any = None
    error: BaseException | None = None
    response: Response | None = None
    answer: Any = None


class Plan(BoundHandler):
    """A view and what comes before and after it, with functions compiled for calls: `calls`.

    The stages are: each of `middlewares`, whoever may call, the arguments, the view, and each
    `process_response`. What a function returns as the view's answer is Unfinished if a stage has
    to wait, or fails. `is_staged` tells whether there is more than a view, `is_default` whether
    the view leaves the choice of a renderer to the server; then an answer of one of PLAIN_TYPES
    has passed all stages.
    """

    __slots__ = (
        "_has_own_init",
        "_is_guarded",
        "_is_settled",
        "_is_usable",
        "_lists",
        "_reserved",
        "is_default",
        "is_staged",
        "middlewares",
        "route",
        "scope",
    )

    def __init__(self, handler: BoundHandler, route: Route, scope: Scope) -> None:
        super().__init__(handler.view_class, handler.word, handler.path_names)
        view_class = self.view_class
        self.route = route
        self.scope = scope
        # An instance may demand more than its class.
        self._has_own_init = any(
            "__init__" in vars(ancestor) or "__new__" in vars(ancestor)
            for ancestor in view_class.__mro__[:-1]
        )
        self.is_default = has_default_renderer(view_class)
        self._is_settled = self._is_usable = False

    def settle(self) -> bool:
        """Settle at the first call what calls need; tell whether they can be made by the plan."""
        if self._is_settled:
            return self._is_usable
        scope, view_class = self.scope, self.view_class
        self.middlewares = tuple(scope.middlewares)
        self._lists = [(live, tuple(live)) for live in scope.lists]
        self._is_guarded = is_guarded(view_class)
        self._reserved = frozenset().union(*map(names_set_by, self.middlewares))
        self.is_staged = bool(self.middlewares) or self._is_guarded
        # A router of a program's own may make a new list whenever it is asked.
        is_watched = all(
            type(one) is list and one is again
            for one, again in zip(scope.lists, scope.lists, strict=True)
        )
        self._is_usable = is_watched and not (view_class.blocking or view_class.ordered)
        self._is_settled = True
        return self._is_usable

    def call(
        self, request: Any, values: Sequence[str], arguments: Mapping[str, Any]
    ) -> CallResult:
        """Call a new view if it has no stages, and add a function for such calls to `calls`.

        Raises what `bind` and the view raise, and Unplanned.
        """
        for live, known in self._lists:
            if len(live) != len(known) or any(map(is_not, live, known)):
                self._restart()
        if self._reserved:
            self._check_names(request)
        keywords = arguments if self.is_staged else self.bind(len(values), arguments)
        self.remember(values, arguments)
        view = self.view_class()
        if self.is_staged or is_guarded(view):
            return view, Unfinished(0), arguments
        return view, getattr(view, self.attribute)(request, *values, **keywords), keywords

    def _restart(self) -> None:
        """Settle anew for the next call."""
        self._is_settled = False
        self.calls.clear()
        raise Unplanned

    def _check_names(self, request: Any) -> None:
        if not self._reserved.isdisjoint(request.extra_names):
            raise Unplanned

    def _body(
        self, take: Sequence[str], answer: str, check: Sequence[str] = ()
    ) -> tuple[list[str], dict[str, Any]]:
        names: dict[str, Any] = {"unfinished": Unfinished, "restart": self._restart}
        changed = []
        for number, (live, known) in enumerate(self._lists):
            names[f"list{number}"] = live
            changed.append(f"len(list{number}) != {len(known)}" if known else f"list{number}")
            for index, middleware in enumerate(known):
                names[f"known{number}_{index}"] = middleware
                changed.append(f"list{number}[{index}] is not known{number}_{index}")
        lines = [f"if {' or '.join(changed)}:", "    restart()"] if changed else []
        if self._reserved:
            names["check_names"] = self._check_names
            lines += ["if request.extra_names:", "    check_names(request)"]
        if self.is_staged:
            body, more = self._stages(take, answer)
        else:
            # An instance may demand more than its class.
            demands = ["if view.auth_required or view.permission_classes:", f"    {_left_at(0)}"]
            check = [*check, *(demands if self._has_own_init else ())]
            body, more = super()._body(take, answer, check)
        return [*lines, *body], {**names, **more}

    def _stages(self, take: Sequence[str], answer: str) -> tuple[list[str], dict[str, Any]]:
        """Return the lines for calls with stages; each may leave the rest of the call to others.

        Middlewares may change the request and the view: its method, its arguments, who may call.
        """
        names: dict[str, Any] = {
            "is_awaitable": is_awaitable,
            "access": access,
            "take": take_steps,
        }
        lines = []
        entered = len(self.middlewares)
        for index, middleware in enumerate(self.middlewares):
            names[f"middleware{index}"] = middleware
            lines += [
                f"position = {index + 1}",
                f"waiting = middleware{index}.process_request(request, view)",
                "if waiting is not None and is_awaitable(waiting):",
                f"    {_left_at(index + 1, 'waiting')}",
            ]
        if self._is_guarded:
            lines += [
                "waiting = take(access(request, view))",
                "if waiting is not None:",
                f"    {_left_at(entered + 1, 'waiting')}",
            ]
        else:
            lines += ["if view.auth_required or view.permission_classes:"]
            lines += [f"    {_left_at(entered)}"]
        chooses = "view.renderers or " if self.is_default else ""
        lines += [
            f"if {chooses}view.blocking or request.method is not method:",
            f"    {_left_at(entered + 1)}",
            "arguments = request._args or no_arguments",
            f"if len(arguments) != {len(take)}:",
            f"    {_left_at(entered + 1)}",
        ]
        if take:
            lines += ["try:", *(f"    {line}" for line in take)]
            lines += ["except KeyError:", f"    {_left_at(entered + 1)}"]
        lines.append(f"answer = {answer}")
        if self.is_default:
            lines += self._response_lines(names)
        head = ["view = view_class()", "method = request.method", "answer = response = None"]
        head += ["position = 0", "try:"]
        left = _left_at("position", None, "exc", "response", "answer")
        tail = ["except BaseException as exc:", f"    {left}"]
        tail.append("return view, answer, arguments")
        return [*head, *(f"    {line}" for line in lines), *tail], names

    def _response_lines(self, names: dict[str, Any]) -> list[str]:
        """Return the lines for the middlewares that see each reply.

        A reply that none of them changes is rendered as if there were none.
        """
        found = responding(self.middlewares)
        if not found:
            return []
        names.update(new=Response.__new__, response_class=Response, plain_types=PLAIN_TYPES)
        start = len(self.middlewares) + 2
        lines = [
            "if type(answer) not in plain_types:",
            "    return view, answer, arguments",
            "response = new(response_class)",  # its __init__ would make another dict
            "response.status = None",
            'content = response._content = {"data": answer, "event_name": request.event_name}',
            "if request.id is not None:",
            '    content["id"] = request.id',
            "size = len(content)",
        ]
        for index, middleware in enumerate(found, 1):
            names[f"responding{index}"] = middleware
            lines += [
                f"position = {start + index}",
                f"changed = responding{index}.process_response(request, response)",
                "if changed is not None:",
                f"    {_left_at(start + index, 'changed', None, 'response', 'answer')}",
            ]
        lines += [
            f"if {TOUCHED}:",
            f"    {_left_at(start + len(found), None, None, 'response', 'answer')}",
        ]
        return lines


def _left_at(*stage: object) -> str:
    return f"return view, unfinished({', '.join(map(str, stage))}), arguments"


def names_set_by(middleware: object) -> Sequence[str]:
    """Return the names of the attributes that a middleware sets on requests."""
    names = getattr(middleware, "request_attributes", ())
    return (names,) if isinstance(names, str) else names


def responding(middlewares: Sequence[Any]) -> list[Any]:
    """Return the middlewares that see replies, in the order in which they do."""
    return [one for one in reversed(middlewares) if hasattr(one, "process_response")]


class Plans:
    """The plans of a router's routes for one server.

    `remembered` has the plans, by method, and the path values of the URLs requested last. If it
    `is_for_views`, calls with more stages than a view have none.
    """

    __slots__ = (
        "__weakref__",
        "_equipment",
        "_is_for_views",
        "_of_routes",
        "_table",
        "remembered",
    )

    def __init__(
        self, table: RouteTable, equipment: Equipment, *, is_for_views: bool = False
    ) -> None:
        self._table = table
        self._is_for_views = is_for_views
        self._equipment = equipment
        self._of_routes: dict[Route, dict[str, Plan]] = {}
        self.remembered: dict[Any, tuple[dict[str, Plan], tuple[str, ...]]] = {}
        table.caches.add(self)

    def clear(self) -> None:
        """Forget all plans: there are new routes."""
        self._of_routes.clear()
        self.remembered.clear()

    def find(self, url: object, method: object) -> tuple[Plan, tuple[str, ...]] | None:
        """Return the plan of a call and the path values, and remember the URL.

        Returns None for a call without a plan.
        """
        if type(url) is not str or type(method) is not str:
            return None
        found = self.remembered.get(url)
        if found is None:
            route, values = self._table.find(normalize_path(url))
            if route is None:
                return None
            found = (self._of(route), tuple(values))
            # The pattern of a program's own parser may give fewer values than there are
            # parameters.
            is_whole = len(values) == len(getattr(route.endpoint, "parameters", ()))
            is_short = len(url) <= MAX_REMEMBERED_URL_LENGTH
            if is_whole and is_short and type(route.endpoint) in _INDEXED:
                if len(self.remembered) >= MAX_REMEMBERED_URLS:
                    self.remembered.clear()
                self.remembered[url] = found
        plan = found[0].get(method)
        if plan is None or not plan.settle() or (plan.is_staged and self._is_for_views):
            return None
        return plan, found[1]

    def _of(self, route: Route) -> dict[str, Plan]:
        """Return the plans of a route by method, in lower and in upper case."""
        plans = self._of_routes.get(route)
        if plans is None:
            plans = self._of_routes[route] = {}
            for word, handler in route.handlers.items():
                own = route_errors(handler.view_class)
                scope = route.scope_for(word).equipped(self._equipment, own)
                plans[word] = plans.get(word.lower()) or Plan(handler, route, scope)
        return plans
