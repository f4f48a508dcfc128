"""Remove secrets from URLs for logs and error texts."""

from yarl import URL

__all__ = ("redact_url",)


def redact_url(url: URL | str) -> str:
    """Return `url` without user, password, query and fragment."""
    try:
        parsed = URL(url).with_query(None).with_fragment(None)
        return str(parsed.with_user(None) if parsed.absolute else parsed)
    except ValueError:
        return "(not a URL)"
