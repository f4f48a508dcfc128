"""The servers that are compared; each module is a program, `python -m bench.peers.NAME`."""
