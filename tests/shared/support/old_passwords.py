"""Password hashes of 1.1."""

import hashlib


def sha256_of_1_1(password):
    return hashlib.sha256(password.encode()).hexdigest()
