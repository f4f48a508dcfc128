"""Auths: the base class, and ready-made ones."""

from networkpype.auth.base import Auth
from networkpype.auth.headers import APIKeyAuth, BearerAuth
from networkpype.auth.hmac_sha256 import HMACHeaderAuth, HMACQueryAuth, SignedParts
from networkpype.auth.token import Token, TokenAuth

__all__ = (
    "APIKeyAuth",
    "Auth",
    "BearerAuth",
    "HMACHeaderAuth",
    "HMACQueryAuth",
    "SignedParts",
    "Token",
    "TokenAuth",
)
