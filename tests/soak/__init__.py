"""Proofs under load: servers and clients in processes of their own, measured from outside."""
