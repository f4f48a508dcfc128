"""Names of Twisted's that are not public."""

from twisted.internet._producer_helpers import _PullToPush as PullToPush

__all__ = ("PullToPush",)
