"""Certificates and keys, for asyncio's TLS and for Twisted's."""

import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions, TLSVersion
from zope.interface import implementer

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.transports.renewal import Renewed

__all__ = ("TLSFiles",)


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Paths of PEM files: a certificate with its chain, and its key.

    `chain` is the file of the chain, if that is not in the file of the certificate. With
    `ca_certs` clients need a certificate that one of these authorities has signed. `password` is
    that of an encrypted key. With `reloads` new handshakes use files that have changed.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    chain: str | os.PathLike[str] | None = None
    ca_certs: str | os.PathLike[str] | None = None
    password: str | bytes | None = field(default=None, repr=False)
    reloads: bool = True

    def for_loop(self) -> Callable[[], ssl.SSLContext]:
        """Return a function for the context of the next handshake, for asyncio's TLS."""
        return Renewed(self._watched, self.ssl_context)

    def for_twisted(self) -> Any:
        """Return what Twisted's TLS takes."""
        return _TwistedContexts(Renewed(self._watched, self.twisted_options))

    @property
    def _watched(self) -> list[str | os.PathLike[str]]:
        paths = (self.certificate, self.key, self.chain, self.ca_certs)
        return [path for path in paths if path is not None] if self.reloads else []

    def twisted_options(self) -> CertificateOptions:
        """Return options for Twisted's TLS; raise ImproperlyConfigured for unusable files."""
        self._check_readable()
        options = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2)
        # Twisted's arguments for files need a class of pyOpenSSL that is deprecated.
        context = options.getContext()
        self._trust_clients(context)
        with self._certificates() as certificates, self._naming(self.certificate):
            context.use_certificate_chain_file(certificates)
        with self._naming(self.key):
            self._load_key(context)
            context.check_privatekey()
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context for asyncio's TLS; raise ImproperlyConfigured for unusable files."""
        self.twisted_options()  # its errors say what is wrong
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            with self._certificates() as certificates:
                context.load_cert_chain(certificates, self.key, self.password)
        except OSError as exc:  # ssl.SSLError is an OSError
            raise self._unusable(str(exc)) from exc
        if self.ca_certs is not None:
            context.load_verify_locations(self.ca_certs)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _load_key(self, context: SSL.Context) -> None:
        pem = Path(self.key).read_bytes()
        if b"ENCRYPTED" not in pem:
            context.use_privatekey_file(os.fspath(self.key))
            return
        # Without a password OpenSSL would ask for it on the terminal.
        if self.password is None:
            raise self._unusable("the key is encrypted: give ssl_keyfile_password")
        password = self.password.encode() if isinstance(self.password, str) else self.password
        try:
            key = load_pem_private_key(pem, password)
        except (TypeError, ValueError, UnsupportedAlgorithm) as exc:
            raise self._unusable("the key cannot be decrypted with ssl_keyfile_password") from exc
        try:
            context.use_privatekey(cast("Any", key))
        except TypeError:  # pyOpenSSL before 24.3
            context.use_privatekey(crypto.PKey.from_cryptography_key(cast("Any", key)))

    def _trust_clients(self, context: SSL.Context) -> None:
        if self.ca_certs is None:
            return
        try:
            with Path(self.ca_certs).open("rb"):  # OpenSSL would not name it
                pass
            context.load_verify_locations(os.fspath(self.ca_certs))
            context.load_client_ca(os.fsencode(self.ca_certs))
        except (OSError, ValueError, SSL.Error) as exc:
            why = _reasons(exc) if isinstance(exc, SSL.Error) else exc
            raise ImproperlyConfigured(
                f"The authorities {str(self.ca_certs)!r} (ssl_ca_certs) cannot be used: {why}."
            ) from exc
        context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *found: bool(found[-1])
        )

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


@implementer(IOpenSSLContextFactory)
class _TwistedContexts:
    """Twisted takes the context of each connection from here."""

    def __init__(self, options: Callable[[], CertificateOptions]) -> None:
        self._options = options

    def getContext(self) -> SSL.Context:
        """Return the context of the next handshake."""
        return self._options().getContext()


_PEM_CERTIFICATE = rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"


def _why(exc: Exception) -> str:
    return (isinstance(exc, OSError) and exc.strerror) or str(exc)


def _reasons(exc: SSL.Error) -> str:
    errors = exc.args[0] if exc.args else ()
    return "; ".join(reason for *_, reason in errors if reason) or "OpenSSL does not say why"
