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
    """A user cannot be made without a username and a password."""

    default_detail = "A username and a password are required."


class SearchCriteriaRequired(BaseAPIException):
    """It was not said which user is meant."""

    default_detail = "A username is required."


class NotEnoughArguments(BaseAPIException):
    """It was not said what to change."""

    default_detail = "At least one field to change is required."


class DuplicateUsername(BaseAPIException):
    """A username belongs to somebody already."""

    default_detail = "This username is taken."
    status = HTTPStatus.CONFLICT.value
