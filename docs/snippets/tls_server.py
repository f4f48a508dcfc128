"""The first server, over wss://."""

from aiorest_ws import Application
from first_server import router

app = Application(router=router, certificate="server.pem", key="server.key")

if __name__ == "__main__":
    app.run(port=8443)
