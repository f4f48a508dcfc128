"""Settings: defaults, the named module over them, read on first use."""

import subprocess
import sys
import threading

import pytest

from aiorest_ws.conf import ENVIRONMENT_VARIABLE, Settings, global_settings, is_setting_name
from aiorest_ws.exceptions import ImproperlyConfigured

DEFAULTS = {
    "ISO_8601": "iso-8601",
    "DATE_FORMAT": "iso-8601",
    "DATETIME_FORMAT": "iso-8601",
    "TIME_FORMAT": "iso-8601",
    "DATE_INPUT_FORMATS": ("iso-8601",),
    "DATETIME_INPUT_FORMATS": ("iso-8601",),
    "TIME_INPUT_FORMATS": ("iso-8601",),
    "TIME_ZONE": "America/Chicago",
    "USE_TZ": False,
    "DEFAULT_ENCODING": "utf-8",
    "DEFAULT_LOGGING_SETTINGS": {},
    "UNICODE_JSON": True,
    "COMPACT_JSON": True,
    "COERCE_DECIMAL_TO_STRING": True,
    "UPLOADED_FILES_USE_URL": True,
    "DATABASES": {},
    "USE_ORM_ENGINE": False,
    "SQLALCHEMY_ENGINE": None,
    "SQLALCHEMY_SESSION": None,
    "REST_CONFIG": {"NON_FIELD_ERRORS_KEY": "non_field_errors", "URL_FIELD_NAME": "url"},
    "MIDDLEWARE_CLASSES": (),
    "HASH_ALGORITHM": "HS256",
    "SECRET_KEY": "",
}


@pytest.fixture
def settings_module(tmp_path, monkeypatch):
    """Write a settings module and name it in the environment."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source, name="settings_of_the_test"):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, name)
        return Settings()

    return write


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    return Settings()


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_default_of_a_setting(plain, name, value):
    assert getattr(plain, name) == value


def test_there_are_no_defaults_but_these(plain):
    assert {name for name in dir(plain) if is_setting_name(name)} == set(DEFAULTS)
    assert set(global_settings.__all__) == set(DEFAULTS)


def test_an_empty_variable_means_defaults(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert Settings().COMPACT_JSON is True


def test_the_named_module_goes_over_the_defaults(settings_module):
    settings = settings_module("COMPACT_JSON = False\nDEBUG_LEVEL = 7\n")
    assert settings.COMPACT_JSON is False
    assert settings.DEBUG_LEVEL == 7
    assert settings.UNICODE_JSON is True


def test_only_upper_case_names_of_the_module_are_settings(settings_module):
    settings = settings_module("lower = 1\nMixed = 2\n_PRIVATE = 3\nUPPER = 4\n")
    assert settings.UPPER == 4
    for name in ("lower", "Mixed", "_PRIVATE"):
        with pytest.raises(AttributeError, match="only upper-case names"):
            getattr(settings, name)


def test_nothing_is_read_before_the_first_use(settings_module, capsys):
    settings = settings_module("print('module read')\nNAME = 1\n")
    assert "from" in repr(settings)
    assert not hasattr(settings, "lower_case")
    assert capsys.readouterr().out == ""
    assert (settings.NAME, settings.NAME, settings.COMPACT_JSON) == (1, 1, True)
    assert capsys.readouterr().out == "module read\n"


@pytest.mark.process
def test_importing_the_package_reads_no_settings():
    code = (
        "import aiorest_ws.conf, aiorest_ws.test.utils, aiorest_ws.auth.permissions\n"
        "from aiorest_ws.conf import settings\n"
        "try:\n"
        "    settings.COMPACT_JSON\n"
        "except Exception as exc:\n"
        "    print(type(exc).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={ENVIRONMENT_VARIABLE: "no_such_module_of_settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ImproperlyConfigured\n", "")


@pytest.mark.parametrize("name", ["no_such_module_of_settings", "no_such.module", ".relative"])
def test_a_missing_module_is_named_in_the_error(monkeypatch, name):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, name)
    settings = Settings()
    with pytest.raises(ImproperlyConfigured, match=f"{name}.*{ENVIRONMENT_VARIABLE}"):
        _ = settings.COMPACT_JSON
    # And again: a failed read leaves nothing half-read behind.
    with pytest.raises(ImproperlyConfigured):
        _ = settings.COMPACT_JSON


def test_an_error_inside_the_module_is_shown_as_it_is(settings_module):
    settings = settings_module("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        _ = settings.COMPACT_JSON


def test_a_missing_setting_is_an_attribute_error(plain, settings_module):
    with pytest.raises(AttributeError, match="no setting NO_SUCH"):
        _ = plain.NO_SUCH
    with pytest.raises(AttributeError, match=r"no setting NO_SUCH.*'settings_of_the_test'"):
        _ = settings_module("").NO_SUCH


def test_mutable_defaults_are_not_shared(plain):
    plain.REST_CONFIG["URL_FIELD_NAME"] = "href"
    plain.DATABASES["default"] = {}
    assert DEFAULTS["REST_CONFIG"] == Settings().REST_CONFIG == global_settings.REST_CONFIG
    assert Settings().DATABASES == global_settings.DATABASES == {}


def test_a_setting_that_was_read_is_a_plain_attribute(plain):
    assert plain.COMPACT_JSON is True
    assert vars(plain)["COMPACT_JSON"] is True


def test_a_setting_can_be_set_and_deleted(plain):
    plain.COMPACT_JSON = False
    plain.NEW = 1
    assert (plain.COMPACT_JSON, plain.NEW) == (False, 1)
    del plain.NEW
    with pytest.raises(AttributeError):
        _ = plain.NEW
    with pytest.raises(AttributeError):
        del plain.NEW


def test_what_is_set_before_the_first_read_stays(settings_module):
    settings = settings_module("COMPACT_JSON = True\n")
    settings.COMPACT_JSON = False
    assert settings.UNICODE_JSON is True
    assert settings.COMPACT_JSON is False


def test_other_names_cannot_be_set(plain):
    with pytest.raises(AttributeError, match="only upper-case names"):
        plain.compact_json = False


def test_repr_shows_no_values(settings_module):
    settings = settings_module("SECRET_KEY = 'hidden-value'\n")
    assert settings.SECRET_KEY == "hidden-value"
    assert repr(settings) == "<Settings from settings_of_the_test>"


def test_a_settings_module_may_read_the_defaults(settings_module, monkeypatch):
    settings = settings_module(
        "import aiorest_ws.conf as conf\n"
        "DATE_FORMAT = conf.settings.ISO_8601 + '!'\n"
        "HAS_OWN = hasattr(conf.settings, 'HAS_OWN')\n"
    )
    monkeypatch.setattr("aiorest_ws.conf.settings", settings)
    assert settings.DATE_FORMAT == "iso-8601!"
    assert settings.HAS_OWN is False


def test_threads_read_the_module_once_and_see_all_of_it(settings_module):
    settings = settings_module("import time\ntime.sleep(0.05)\nCOMPACT_JSON = False\n")
    seen = []
    gate = threading.Barrier(4)

    def read():
        gate.wait(10)
        seen.append(settings.COMPACT_JSON)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [False] * 4


def test_no_thread_sees_a_module_that_is_half_read(settings_module, monkeypatch):
    settings = settings_module(
        "import threading\n"
        "import aiorest_ws.conf as conf\n"
        "SEEN = [conf.settings.COMPACT_JSON]\n"
        "THREAD = threading.Thread(target=lambda: SEEN.append(conf.settings.COMPACT_JSON))\n"
        "THREAD.start()\n"
        "THREAD.join(0.2)\n"
        "COMPACT_JSON = False\n"
    )
    monkeypatch.setattr("aiorest_ws.conf.settings", settings)
    settings.THREAD.join(10)
    assert settings.SEEN == [True, False]
