"""Signing of requests: what an auth must offer, and ready signers."""

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
