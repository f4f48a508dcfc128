"""The options of a factory."""

import difflib

__all__ = ("OPTIONS", "unknown_option")

OPTIONS = (
    *("url", "protocols", "server", "headers", "externalPort", "reactor"),
    *("router", "limits", "blocking_threads", "topics", "presence_info", "encoder"),
)


def unknown_option(name: str) -> str:
    """Return what is wrong with an option of this name."""
    nearest = difflib.get_close_matches(name, (*OPTIONS, "access_log"), n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown option {name!r}{hint}"
