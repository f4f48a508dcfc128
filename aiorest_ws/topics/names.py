"""Names of topics, and patterns that match them."""

import re
from collections.abc import Mapping

__all__ = ("Pattern", "check_name", "is_name")

MAX_NAME_BYTES = 200

# Without braces, which make patterns, the wildcards of Redis, and whitespace, for logs.
_SEGMENT = r"[^/{}*?\[\]\s\x00-\x1f\x7f]+"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PARAMETER = re.compile(r"\{([^{}]*)\}")


def is_name(name: str) -> bool:
    """Tell whether `name` is a valid name of a topic."""
    return _NAME.fullmatch(name) is not None and _size(name) <= MAX_NAME_BYTES


def check_name(name: str) -> None:
    """Raise ValueError if `name` is not a valid name of a topic."""
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(
            f"{name!r} cannot be the name of a topic: it has at most {MAX_NAME_BYTES} bytes, and "
            "segments separated by slashes, without whitespace and { } * ? [ ]"
        )


class Pattern:
    """The name of a topic, or one with parameters, such as `orders/{id}`.

    A parameter matches one or more characters of a segment. Raises ValueError for an invalid
    pattern.
    """

    def __init__(self, text: str) -> None:
        parts = _PARAMETER.split(text)
        self.text = text
        self.parameters = tuple(parts[1::2])
        for parameter in self.parameters:
            if not parameter.isidentifier():
                raise ValueError(f"{parameter!r} in {text!r} is not a valid parameter name")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError(f"{text!r} has a parameter twice")
        if any(len(_PARAMETER.findall(segment)) > 2 for segment in text.split("/")):
            # With more, the time to match grows with a power of the length of the name.
            raise ValueError(f"a segment of {text!r} has more than two parameters")
        check_name(_PARAMETER.sub("x", text))
        self._expression = re.compile(
            "".join(
                f"(?P<{part}>{_SEGMENT})" if index % 2 else re.escape(part)
                for index, part in enumerate(parts)
            )
        )

    def match(self, name: str) -> dict[str, str] | None:
        """Return the values of the parameters in `name`, None if it does not match."""
        found = self._expression.fullmatch(name) if is_name(name) else None
        return None if found is None else found.groupdict()

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the name with these values; raise ValueError for what no name can have."""
        name = _PARAMETER.sub(lambda found: values[found[1]], self.text)
        check_name(name)
        if self.match(name) != values:
            raise ValueError(f"{name!r} is no topic of {self.text!r} with these values")
        return name

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))
