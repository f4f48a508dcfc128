"""An asynchronous client toolkit: REST and WebSocket connections that share limits."""
