"""Files of TLS."""

import pytest
import pytest_twisted

from aiorest_ws.app import Application
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import TLSFiles
from support.transports import bounded


@pytest_twisted.ensureDeferred
async def test_a_service_inside_tls_logs_wss(tls_files, caplog):
    chain, key = tls_files
    strings = {
        f"native:ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}": "wss",
        "native:tcp:0:interface=127.0.0.1": "ws",
    }
    for string, scheme in strings.items():
        with caplog.at_level("INFO", "aiorest-ws"):
            service = Application(router=SimpleRouter()).service(listen=string, log_level="info")
            service.startService()
            port = await bounded(service.listening)
        assert f" {scheme}://127.0.0.1:{port.getHost().port}/" in caplog.text
        await service.stopService()


@pytest.mark.parametrize("method", ["ssl_context", "twisted_options"])
def test_files_that_cannot_be_used_are_named(tls_files, tmp_path, method):
    chain, key = tls_files
    (tmp_path / "empty.pem").touch()
    for files in (
        TLSFiles(chain, tmp_path / "absent.pem"),
        TLSFiles(tmp_path / "absent.pem", key),
        TLSFiles(key, key),
        TLSFiles(chain, key, tmp_path / "absent.pem"),
        TLSFiles(chain, key, tmp_path / "empty.pem"),
    ):
        with pytest.raises(ImproperlyConfigured) as raised:
            getattr(files, method)()
        words = f"The certificate '{files.certificate}' and the key '{files.key}' cannot be used: "
        assert str(raised.value).startswith(words)
        assert len(str(raised.value)) > len(words) + 3
