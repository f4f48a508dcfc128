"""A connector for the weather service."""

from networkpype import (
    APIKeyAuth,
    AsyncThrottler,
    ConnectionManagersFactory,
    HTTPStatusError,
    RateLimit,
    RESTMethod,
    RetryPolicy,
)


class UnknownCity(LookupError):
    pass


class Weather:
    def __init__(self, url, api_key):
        self._url = url
        self._factory = ConnectionManagersFactory(
            AsyncThrottler([RateLimit("weather", limit=5, time_interval=1.0)]),
            auth=APIKeyAuth(api_key),
            retry=RetryPolicy(),
        )

    async def __aenter__(self):
        self._manager = await self._factory.get_rest_manager()
        return self

    async def __aexit__(self, *error):
        await self._factory.close()

    async def celsius(self, city):
        try:
            answer = await self._call(f"weather/{city}")
        except HTTPStatusError as error:
            if error.status == 404:
                raise UnknownCity(city) from error
            raise
        return answer["celsius"]

    async def report(self, city, celsius):
        await self._call(
            "reports",
            method=RESTMethod.POST,
            data={"city": city, "celsius": celsius},
            is_auth_required=True,
        )

    async def _call(self, path, **options):
        return await self._manager.execute_request(
            f"{self._url}{path}", throttler_limit_id="weather", timeout=30, **options
        )
