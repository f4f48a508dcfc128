"""The reply of a success in JSON, where no renderer of the program has to be asked."""

from typing import Any

import msgspec

from aiorest_ws.codecs import for_javascript
from aiorest_ws.conf import settings
from aiorest_ws.values import encoder
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

__all__ = ("has_default_renderer", "success_reply")

# The settings that have been read. `settings` reads them on demand, which is slower; the first
# reply, which is made by a renderer, reads the two that are needed here.
_SETTINGS = vars(settings)


class _Success(msgspec.Struct, gc=False):
    """A Struct, because msgspec encodes it faster than a dict."""

    data: Any
    event_name: Any


class _IdentifiedSuccess(_Success, gc=False):
    id: str | int


def has_default_renderer(view: Any) -> bool:
    """Tell whether a view, or the views of a class, have no renderer of their own."""
    chooses = view.get_renderer
    return (
        getattr(chooses, "__func__", chooses) is MethodBasedView.get_renderer
        and isinstance(view.renderers, (list, tuple))
        and not view.renderers
    )


def success_reply(request: Request, is_default: bool, answer: object) -> bytes | None:
    """Return the reply, or None if a renderer has to make it.

    `is_default` tells that the view has no renderer of its own.
    """
    try:
        if not is_default or not _SETTINGS["COMPACT_JSON"]:
            return None
    except KeyError:  # not read yet
        return None
    try:
        if request.id is None:
            encoded = encoder.encode(_Success(answer, request.event_name))
        else:
            encoded = encoder.encode(_IdentifiedSuccess(answer, request.event_name, request.id))
    # Only the converter of the program may know a value; if not, the renderer says why.
    except Exception:  # noqa: BLE001  values may run code of the program
        return None
    if encoded.isascii():
        return encoded
    return for_javascript(encoded) if _SETTINGS.get("UNICODE_JSON") else None
