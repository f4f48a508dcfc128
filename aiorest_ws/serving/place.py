"""Where in an application a thread is, of the frames on its stack."""

import os
import sysconfig
from collections.abc import Sequence
from pathlib import PurePath
from types import CodeType, FrameType

__all__ = ("codes_of", "frames_after", "place_of")

# What calls an application's functions; the standard library is found by its folder.
_FRAMEWORK = frozenset({"aiorest_ws", "autobahn", "twisted", "txaio", "uvloop", "zope"})
_STDLIB = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = ("site-packages", "dist-packages")


def codes_of(frame: FrameType | None) -> list[CodeType]:
    """Return the functions on a stack, the outermost first."""
    return [one.f_code for one in _outermost_first(frame)]


def frames_after(base: Sequence[CodeType], frame: FrameType | None) -> list[FrameType]:
    """Return the frames of a stack, the outermost first, without those that it begins with."""
    frames = _outermost_first(frame)
    shared = 0
    for code, one in zip(base, frames, strict=False):
        if one.f_code is not code:
            break
        shared += 1
    return frames[shared:]


def place_of(frames: Sequence[FrameType]) -> str | None:
    """Return the innermost place in the application's code, and the function that was called.

    None if no frame is the application's.
    """
    theirs = [frame for frame in frames if not _is_framework(frame)]
    # An application may itself be installed: then the function that was called must do.
    theirs = [frame for frame in theirs if not _is_installed(frame)] or theirs[:1]
    if not theirs:
        return None
    called, innermost = theirs[0], theirs[-1]
    if called is innermost:
        return _describe(innermost)
    return f"{_describe(innermost)}, called by {_describe(called)}"


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _is_framework(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__") or ""
    path = frame.f_code.co_filename
    return (
        not name  # a function that was compiled for a view
        or name.partition(".")[0] in _FRAMEWORK
        or path.startswith("<frozen ")
        or (path.startswith(_STDLIB) and not _is_installed(frame))
    )


def _is_installed(frame: FrameType) -> bool:
    return any(folder in PurePath(frame.f_code.co_filename).parts for folder in _INSTALLED)


def _describe(frame: FrameType) -> str:
    name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} {name}"
