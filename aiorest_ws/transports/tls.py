"""Certificates and keys, for asyncio's TLS and for Twisted's."""

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions, TLSVersion

from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = ("TLSFiles",)


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Paths of PEM files: a certificate with its chain, and its key.

    `chain` is the file of the chain, if that is not in the file of the certificate.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    chain: str | os.PathLike[str] | None = None

    def twisted_options(self) -> CertificateOptions:
        """Return options for Twisted's TLS; raise ImproperlyConfigured for unusable files."""
        self._check_readable()
        options = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2)
        # Twisted's arguments for files need a class of pyOpenSSL that is deprecated.
        context = options.getContext()
        with self._certificates() as certificates, self._naming(self.certificate):
            context.use_certificate_chain_file(certificates)
        with self._naming(self.key):
            context.use_privatekey_file(os.fspath(self.key))
            context.check_privatekey()
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context for asyncio's TLS; raise ImproperlyConfigured for unusable files."""
        self.twisted_options()  # its errors say what is wrong
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            with self._certificates() as certificates:
                context.load_cert_chain(certificates, self.key)
        except OSError as exc:  # ssl.SSLError is an OSError
            raise self._unusable(str(exc)) from exc
        return context

    @contextmanager
    def _certificates(self) -> Iterator[str]:
        """Return the path of one file with all certificates: OpenSSL takes only one."""
        if self.chain is None:
            yield os.fspath(self.certificate)
            return
        with NamedTemporaryFile(suffix=".pem") as together:
            for path in (self.certificate, self.chain):
                found = re.findall(_PEM_CERTIFICATE, Path(path).read_bytes(), re.DOTALL)
                if not found:
                    raise self._unusable(f"there is no certificate in {str(path)!r}")
                together.write(b"\n".join([*found, b""]))
            together.flush()
            yield together.name

    @contextmanager
    def _naming(self, path: str | os.PathLike[str]) -> Iterator[None]:
        """Name the file that OpenSSL cannot use."""
        try:
            yield
        except SSL.Error as exc:
            raise self._unusable(f"{os.fspath(path)!r}: {_reasons(exc)}") from exc

    def _check_readable(self) -> None:
        # OpenSSL does not say which file it cannot read.
        for path in (self.certificate, self.key, self.chain):
            if path is not None:
                try:
                    with Path(path).open("rb"):
                        pass
                except (OSError, ValueError) as exc:
                    raise self._unusable(f"{os.fspath(path)!r}: {_why(exc)}") from exc

    def _unusable(self, why: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(
            f"The certificate {str(self.certificate)!r} and the key {str(self.key)!r} cannot "
            f"be used: {why}."
        )


_PEM_CERTIFICATE = rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"


def _why(exc: Exception) -> str:
    return (isinstance(exc, OSError) and exc.strerror) or str(exc)


def _reasons(exc: SSL.Error) -> str:
    errors = exc.args[0] if exc.args else ()
    return "; ".join(reason for *_, reason in errors if reason) or "OpenSSL does not say why"
