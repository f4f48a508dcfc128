from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    RateLimit,
    RESTMethod,
    Token,
    TokenAuth,
)

LIMITS = [RateLimit("login", limit=1, time_interval=1), RateLimit("api", 100, 1)]


class Client:
    def __init__(self, url, user, password):
        self._url = url
        self._login = {"user": user, "password": password}
        self._factory = ConnectionManagersFactory(
            AsyncThrottler(LIMITS), auth=TokenAuth(self._fetch_token)
        )

    async def _fetch_token(self):
        # Uses the same factory, without auth.
        manager = await self._factory.get_rest_manager()
        answer = await manager.execute_request(
            f"{self._url}/login", "login", method=RESTMethod.POST, data=self._login
        )
        return Token(answer["access_token"], expires_in_s=answer["expires_in"])

    async def profile(self):
        manager = await self._factory.get_rest_manager()
        return await manager.execute_request(
            f"{self._url}/profile", "api", is_auth_required=True
        )

    async def close(self):
        await self._factory.close()
