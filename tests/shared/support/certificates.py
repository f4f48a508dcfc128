"""Certificates and keys for tests, in files."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Certificate:
    """A certificate with its key, signed by `issuer` or by itself."""

    def __init__(self, name, issuer=None):
        now = datetime.datetime.now(datetime.UTC)
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer or self
        self.certificate = (
            x509.CertificateBuilder(
                self.issuer.name,
                self.name,
                self.key.public_key(),
                x509.random_serial_number(),
                now - datetime.timedelta(days=1),
                now + datetime.timedelta(days=1),
            )
            .add_extension(x509.BasicConstraints(issuer is None, None), True)
            .sign(self.issuer.key, hashes.SHA256())
        )

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder, password=None):
        """Write `NAME.pem` and `NAME.key`; return their paths."""
        encryption = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password.encode())
        )
        name = self.name.rfc4514_string().removeprefix("CN=")
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        )
        return certificate, key
