"""URLs for logs and errors."""

from yarl import URL

__all__ = ("public_part",)


def public_part(url: URL | str) -> str:
    """Return `url` without user, password, query and fragment."""
    try:
        parsed = URL(url).with_query(None).with_fragment(None)
        return str(parsed.with_user(None) if parsed.absolute else parsed)
    except ValueError:
        return "(not a URL)"
