"""REST over HTTP: requests, responses, connections, managers."""
