"""Log in to get a token, and read an account with it."""

import uuid

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    SimpleRouter,
)
from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.auth.token.backends import InMemoryTokenBackend
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.token.middlewares import JSONWebTokenMiddleware
from aiorest_ws.auth.user.models import UserSQLiteModel

HOUR_SECONDS = 3600

users = UserSQLiteModel()
tokens = InMemoryTokenBackend()
manager = JSONWebTokenManager()


class Users(MethodBasedView):
    blocking = True

    def post(self, request: Request, username, password):
        users.create_user(username=username, password=password, is_user=True)


class Tokens(MethodBasedView):
    blocking = True

    def post(self, request: Request, username, password):
        user = users.get_user_by_username(username, with_id=True)
        if not user.check_password(password) or not user.is_active:
            raise BaseAPIException("Wrong username or password.", status=401)
        claims = {"sub": str(user.id), "jti": uuid.uuid4().hex, "exp": HOUR_SECONDS}
        token = manager.generate({}, **claims)
        tokens.save("session", token, user_id=user.id)
        return token


class Account(MethodBasedView):
    auth_required = True
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request):
        return {"username": request.user.username, "id": request.token_payload["sub"]}


router = SimpleRouter()
router.register("/users", Users, methods="POST")
router.register("/tokens", Tokens, methods="POST")
router.register("/account", Account, methods="GET")

app = Application(router=router, middlewares=(JSONWebTokenMiddleware,))
