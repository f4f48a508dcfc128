"""A call: a request, its view, and the arguments of the view."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from aiorest_ws.dispatch.scopes import Scope
from aiorest_ws.renderers import BaseRenderer

__all__ = ("CALLER", "Call")

# The request of the call that runs in this context, once it has been suspended.
CALLER: ContextVar[Any] = ContextVar("CALLER", default=None)


class Call(msgspec.Struct, frozen=True):
    """What all steps from a view's answer to the reply have in common.

    `values` are the path values. `keywords` are what the view's `get_renderer` is called with.
    `scope` is that of the view's route.
    """

    request: Any
    view: Any
    values: Sequence[str]
    keywords: Mapping[str, Any]
    scope: Scope

    def content(self, answer: object) -> dict[str, Any]:
        """Return the content of the reply for what the view has returned."""
        return {"data": answer, **self.request.to_representation()}

    def renderer(self) -> BaseRenderer:
        """Return the renderer that the view chooses."""
        # No keyword can be named `preferred_format`: the view would have rejected it.
        chosen: BaseRenderer = self.view.get_renderer(
            self.request.get_argument("format"), *self.values, **self.keywords
        )
        return chosen

    def render(self, content: dict[str, Any]) -> bytes:
        """Return `content` as bytes; raise TypeError if the renderer returns anything else."""
        renderer = self.renderer()
        rendered = renderer.render(content)
        if not isinstance(rendered, bytes):
            raise TypeError(f"{renderer!r} must render bytes, not {type(rendered).__name__}")
        return rendered
