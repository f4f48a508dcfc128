"""Errors of user management."""

from http import HTTPStatus

from aiorest_ws.exceptions import BaseAPIException

__all__ = (
    "DuplicateUsername",
    "NotEnoughArguments",
    "RequiredModelFieldsNotDefined",
    "SearchCriteriaRequired",
)


class RequiredModelFieldsNotDefined(BaseAPIException):
    """A new user needs a username and a password."""

    default_detail = "A username and a password are required."


class SearchCriteriaRequired(BaseAPIException):
    """The username is missing."""

    default_detail = "A username is required."


class NotEnoughArguments(BaseAPIException):
    """The fields to change are missing."""

    default_detail = "At least one field to change is required."


class DuplicateUsername(BaseAPIException):
    """The username belongs to another user."""

    default_detail = "This username is taken."
    status = HTTPStatus.CONFLICT.value
