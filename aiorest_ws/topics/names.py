"""Names of topics, and patterns that stand for families of them."""

import re

__all__ = ("Pattern", "check_name", "is_name")

NAME_BYTES = 200

# Braces make patterns, the others would in Redis; a name that is shown in a log has no blanks.
_SEGMENT = r"[^/{}*?\[\]\s\x00-\x1f\x7f]+"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PARAMETER = re.compile(r"\{([^{}]*)\}")


def is_name(name: str) -> bool:
    """Tell whether a topic may be called `name`."""
    return _NAME.fullmatch(name) is not None and _size(name) <= NAME_BYTES


def check_name(name: str) -> None:
    """Raise ValueError if no topic may be called `name`."""
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(
            f"{name!r} cannot be the name of a topic: at most {NAME_BYTES} bytes, segments "
            "between slashes, without blanks and { } * ? [ ]"
        )


class Pattern:
    """A name, or one with parameters in braces such as `orders/{id}`, each within a segment.

    Raises ValueError for a text that cannot match any name.
    """

    def __init__(self, text: str) -> None:
        parts = _PARAMETER.split(text)
        self.text = text
        self.parameters = tuple(parts[1::2])
        for parameter in self.parameters:
            if not parameter.isidentifier():
                raise ValueError(f"{parameter!r} in {text!r} is no name of a parameter")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError(f"a parameter stands twice in {text!r}")
        if any(len(_PARAMETER.findall(segment)) > 2 for segment in text.split("/")):
            # With more, a name that does not fit takes a time that grows with its length.
            raise ValueError(f"a segment of {text!r} has more than two parameters")
        check_name(_PARAMETER.sub("x", text))
        self._expression = re.compile(
            "".join(
                f"(?P<{part}>{_SEGMENT})" if index % 2 else re.escape(part)
                for index, part in enumerate(parts)
            )
        )

    def match(self, name: str) -> dict[str, str] | None:
        """Return what the parameters are in `name`, None if it is not one of the family."""
        found = self._expression.fullmatch(name) if is_name(name) else None
        return None if found is None else found.groupdict()

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))
