"""The defaults of all settings; a settings module overrides single ones."""

from typing import Any

__all__ = (
    "COERCE_DECIMAL_TO_STRING",
    "COMPACT_JSON",
    "DATABASES",
    "DATETIME_FORMAT",
    "DATETIME_INPUT_FORMATS",
    "DATE_FORMAT",
    "DATE_INPUT_FORMATS",
    "DEFAULT_ENCODING",
    "DEFAULT_LOGGING_SETTINGS",
    "HASH_ALGORITHM",
    "ISO_8601",
    "MIDDLEWARE_CLASSES",
    "REST_CONFIG",
    "SECRET_KEY",
    "SQLALCHEMY_ENGINE",
    "SQLALCHEMY_SESSION",
    "TIME_FORMAT",
    "TIME_INPUT_FORMATS",
    "TIME_ZONE",
    "UNICODE_JSON",
    "UPLOADED_FILES_USE_URL",
    "USE_ORM_ENGINE",
    "USE_TZ",
)

ISO_8601 = "iso-8601"
DATE_FORMAT = ISO_8601
DATE_INPUT_FORMATS = (ISO_8601,)
DATETIME_FORMAT = ISO_8601
DATETIME_INPUT_FORMATS = (ISO_8601,)
TIME_FORMAT = ISO_8601
TIME_INPUT_FORMATS = (ISO_8601,)
TIME_ZONE = "America/Chicago"
USE_TZ = False

DEFAULT_ENCODING = "utf-8"
UNICODE_JSON = True
COMPACT_JSON = True
COERCE_DECIMAL_TO_STRING = True
UPLOADED_FILES_USE_URL = True

# For logging.config.dictConfig, when a server is made; empty for the handler of `run`.
DEFAULT_LOGGING_SETTINGS: dict[str, Any] = {}

DATABASES: dict[str, dict[str, Any]] = {}
USE_ORM_ENGINE = False
SQLALCHEMY_ENGINE: Any = None
SQLALCHEMY_SESSION: Any = None

REST_CONFIG = {"NON_FIELD_ERRORS_KEY": "non_field_errors", "URL_FIELD_NAME": "url"}
MIDDLEWARE_CLASSES: tuple[Any, ...] = ()

# Must be set to sign tokens: the token manager refuses an empty secret.
HASH_ALGORITHM = "HS256"
SECRET_KEY: str | bytes = ""
