"""Settings of the server in auth_server.py."""

import os

SECRET_KEY = os.environ["API_SECRET_KEY"]
DATABASES = {"default": {"name": os.environ.get("API_DATABASE", "users.sqlite3")}}
