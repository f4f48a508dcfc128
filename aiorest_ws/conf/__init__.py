"""Settings: the module named in `AIORESTWS_SETTINGS_MODULE`, over the defaults."""

import copy
import importlib
import os
import threading
from types import ModuleType
from typing import Any

from aiorest_ws.conf import global_settings
from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = ("ENVIRONMENT_VARIABLE", "Settings", "is_setting_name", "settings")

ENVIRONMENT_VARIABLE = "AIORESTWS_SETTINGS_MODULE"


def is_setting_name(name: str) -> bool:
    """Tell whether `name` can be a setting: upper-case and not private."""
    return name.isupper() and not name.startswith("_")


class Settings:
    """Holds the settings as attributes; all are loaded when the first one is read.

    Loading raises `ImproperlyConfigured` if the settings module cannot be imported. While it is
    imported, it reads the defaults from here.
    """

    # Names of the object's own attributes; `__setattr__` takes no others but settings.
    _own_names = frozenset({"_defaults", "_is_loaded", "_lock", "_module_name"})

    def __init__(self) -> None:
        # Re-entrant, because a settings module may read settings while it is imported.
        self._lock = threading.RLock()
        self._is_loaded = False
        self._defaults: dict[str, Any] | None = None
        self._module_name = ""

    def __getattr__(self, name: str) -> Any:
        # Called only for attributes that the instance does not have: after loading, a setting is
        # an ordinary attribute.
        if not is_setting_name(name):
            raise AttributeError(f"{name!r} is not a setting: only upper-case names are")
        values = self._values()
        if name not in values:
            source = f" and {self._module_name!r} does not define it" if self._module_name else ""
            raise AttributeError(f"there is no setting {name}: it has no default{source}")
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._own_names:
            if not is_setting_name(name):
                raise AttributeError(f"{name!r} is not a setting: only upper-case names are")
            self._values()
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._values()
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._values()})

    def __repr__(self) -> str:
        # Names only: values may be secrets.
        return f"<{type(self).__name__} from {self._module_name or 'defaults'}>"

    def _values(self) -> dict[str, Any]:
        if self._is_loaded:
            return self.__dict__
        with self._lock:
            if self._defaults is not None:
                return self._defaults
            if not self._is_loaded:
                self._load()
        return self.__dict__

    def _load(self) -> None:
        values = copy.deepcopy(_settings_of(global_settings))
        module_name = os.environ.get(ENVIRONMENT_VARIABLE, "")
        self._module_name = module_name
        if module_name:
            self._defaults = dict(values)
            try:
                values |= _settings_of(_imported(module_name))
            finally:
                self._defaults = None
        self.__dict__.update(values)
        # Last: other threads check it without the lock.
        self._is_loaded = True


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as exc:
        # Relative and empty names are TypeError and ValueError.
        raise ImproperlyConfigured(
            f"the settings module {name!r}, named in {ENVIRONMENT_VARIABLE}, "
            f"cannot be imported: {exc}"
        ) from exc


def _settings_of(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if is_setting_name(name)}


settings = Settings()
