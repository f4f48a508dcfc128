"""REST requests with limits, processors, auth, one deadline and retries."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from networkpype._aiohttp import refuse_request_while_signing
from networkpype._deadline import AttemptDeadline, Deadline
from networkpype._headers import has_header
from networkpype._preparation import prepare_and_send, release_outer_hold
from networkpype.auth import Auth
from networkpype.exceptions import (
    AuthError,
    DeadlineExceeded,
    HTTPStatusError,
    StaleConnectionError,
    TransportError,
)
from networkpype.rest._attempts import Attempt, NullHold, Progress
from networkpype.rest._body import (
    is_replayable,
    json_if_container,
    seek_position,
    with_default_content_type,
    without_none,
)
from networkpype.rest.connection import RESTConnection, check_request_keywords
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPostProcessor, RESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse, decode_json
from networkpype.retry import RetryPolicy, run_attempts
from networkpype.throttler.throttler import AsyncThrottler, Hold

__all__ = ("CountFrom", "RESTManager", "Weight")

T = TypeVar("T")

CountFrom = Literal["response", "admission"]
"""From when a request counts: its response, or (for a long poll) its admission."""

Weight = int | Callable[[RESTRequest], int]
"""As how many requests one request counts, or a function that returns it."""


class RESTManager:
    """Send requests through limits, pre-processors, auth, connection and post-processors.

    With a `retry` policy, failed attempts are repeated. Each attempt takes all steps again: it
    waits for the limit, counts, and gets a new signature. Safe to share between tasks.
    """

    def __init__(
        self,
        connection: RESTConnection,
        throttler: AsyncThrottler,
        rest_pre_processors: Sequence[RESTPreProcessor] | None = None,
        rest_post_processors: Sequence[RESTPostProcessor] | None = None,
        auth: Auth | None = None,
        *,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._connection = connection
        self._throttler = throttler
        self._pre_processors = tuple(rest_pre_processors or ())
        self._post_processors = tuple(rest_post_processors or ())
        self._auth = auth
        self._retry = retry

    # Over 40 lines: the parameters are a public contract.
    async def execute_request(
        self,
        url: str,
        throttler_limit_id: str,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        method: RESTMethod = RESTMethod.GET,
        is_auth_required: bool = False,
        return_err: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  (contract)
        headers: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        weight: Weight = 1,
        count_from: CountFrom = "response",
        encoded: bool = False,
        **aiohttp_kwargs: Any,
    ) -> Any:
        """Send a request and return the JSON of its response, None for an empty body.

        A dict (without its None values) or a list in `data` is sent as JSON, anything else
        unchanged; a file is read from its current position and left open. `weight` is as how many
        requests it counts. `timeout` is in seconds and covers waiting, auth, connecting, the body
        and retries. Further arguments are those of `aiohttp.ClientSession.request`.

        Raises HTTPStatusError (an OSError) for status 400 and up; with `return_err`, returns the
        error body instead if it is JSON. Raises UnknownLimitError (a ValueError), AuthError,
        DeadlineExceeded (a TimeoutError), BodyDecodeError, BodyTooLargeError, and TransportError
        (an aiohttp.ClientError) when there is no response.
        """
        data = json_if_container(data)
        request = RESTRequest(
            method=method,
            url=url,
            params=without_none(params),
            data=data,
            headers=with_default_content_type(headers, method, data),
            is_auth_required=is_auth_required,
            throttler_limit_id=throttler_limit_id,
        )

        async def read_json(response: RESTResponse, _deadline: Deadline) -> Any:
            # Read to the end, or closed by an error: either way the connection is released.
            if response.status >= 400:
                await response.read_error()
                raise response.status_error(url=url)
            await response.read()
            return await response.json(content_type=None)

        options = _SendOptions(priority, weight, count_from, encoded, aiohttp_kwargs)
        try:
            return await self._run(request, timeout, options, read_json)
        except HTTPStatusError as error:
            if not return_err:
                raise
            try:
                return decode_json(error.body)
            except (ValueError, RecursionError):
                # Returning a body that is not JSON would hide the status.
                raise error from None

    async def call(
        self,
        request: RESTRequest,
        timeout: float | None = None,  # noqa: ASYNC109  (contract)
        *,
        priority: int = 0,
        weight: Weight = 1,
        count_from: CountFrom = "response",
        encoded: bool = False,
        **aiohttp_kwargs: Any,
    ) -> RESTResponse:
        """Send `request`; return the response, of any status, as soon as its head has arrived.

        Does not change `request`. Without a `throttler_limit_id`, it waits for no limit. It counts
        as `weight` requests of its limit and of the limits linked to it. `timeout` is in seconds
        and includes reading the body. Raises what `execute_request` raises, except
        HTTPStatusError.
        """

        async def keep(response: RESTResponse, deadline: Deadline) -> RESTResponse:
            response.set_deadline(deadline)
            if self._retry is not None and response.status >= 400:
                # Read the body, so that the connection is free while the next attempt waits.
                await response.read_error()
                raise _ErrorResponse(response)
            return response

        options = _SendOptions(priority, weight, count_from, encoded, aiohttp_kwargs)
        try:
            return await self._run(request, timeout, options, keep)
        except _ErrorResponse as error:
            return error.response

    # Over 40 lines: the closure shares the count of attempts with its caller.
    async def _run(
        self,
        request: RESTRequest,
        timeout_s: float | None,
        options: "_SendOptions",
        finish: Callable[[RESTResponse, Deadline], Awaitable[T]],
    ) -> T:
        """Make attempts until one succeeds, all under one deadline."""
        refuse_request_while_signing()
        if options.aiohttp_kwargs:
            check_request_keywords(options.aiohttp_kwargs)
        if request.is_auth_required and self._auth is None:
            raise AuthError("The request requires auth, but this manager has no Auth.")
        deadline = self._connection.deadline(request.describe, timeout_s)
        is_replayable_request = is_replayable(request.data)
        start = seek_position(request.data)
        progress = Progress()

        async def attempt() -> T:
            for is_second in (False, True):
                progress.begin_attempt()
                if start is not None:
                    request.data.seek(start)
                this = Attempt(deadline, self._attempt_deadline(request), progress)
                try:
                    response = await self._admit_and_send(request, options, this)
                    break
                except StaleConnectionError:
                    # aiohttp itself would have sent it once more.
                    if is_second or not is_replayable_request:
                        raise
            if this.own_deadline is None:
                return await finish(response, deadline)
            async with this.own_deadline.scope():
                return await finish(response, deadline)

        try:
            async with deadline.scope():
                if self._retry is None or not is_replayable_request:
                    return await attempt()
                return await run_attempts(
                    self._retry,
                    lambda _number: progress.observe(attempt),
                    method=str(request.method),
                    has_idempotency_key=has_header(request.headers, "Idempotency-Key"),
                )
        except (TransportError, DeadlineExceeded, HTTPStatusError) as error:
            progress.describe(error)
            raise

    def _attempt_deadline(self, request: RESTRequest) -> AttemptDeadline | None:
        seconds = None if self._retry is None else self._retry.attempt_timeout_seconds
        return None if seconds is None else AttemptDeadline(request.describe, seconds)

    async def _admit_and_send(
        self, request: RESTRequest, options: "_SendOptions", attempt: Attempt
    ) -> RESTResponse:
        """Wait for admission, prepare, send."""
        if self._auth is not None and request.is_auth_required:
            await self._auth.before_admission()
        for processor in self._pre_processors:
            await processor.before_admission()
        limit_id = request.throttler_limit_id
        if limit_id is None:
            return await self._send(
                await self._prepare(request, options), NullHold(), options, attempt
            )
        weight = options.weight(request) if callable(options.weight) else options.weight
        await release_outer_hold(self._throttler)
        if not self._pre_processors and not request.is_auth_required:
            async with self._throttler.hold(
                limit_id, priority=options.priority, weight=weight
            ) as hold:
                return await self._send(_Prepared(request), hold, options, attempt)
        return await prepare_and_send(
            self._throttler,
            limit_id,
            options.priority,
            weight=weight,
            prepare=lambda: self._prepare(request, options),
            send=lambda prepared, hold: self._send(prepared, hold, options, attempt),
        )

    async def _prepare(self, request: RESTRequest, options: "_SendOptions") -> "_Prepared":
        """Return the request to send; a copy only if a processor or the auth may change it."""
        auth = self._auth if request.is_auth_required else None
        if auth is None and not self._pre_processors:
            return _Prepared(request)
        prepared = request.copy()
        for processor in self._pre_processors:
            prepared = await processor.pre_process(prepared)
        if auth is None:
            return _Prepared(prepared)
        self._connection.resolve(prepared, encoded=options.encoded)
        unsigned = None
        if auth.resign_after_s is not None and is_replayable(prepared.data):
            unsigned = prepared.copy()
        return _Prepared(await auth.rest_authenticate(prepared), unsigned)

    async def _send(
        self,
        prepared: "_Prepared",
        hold: Hold | NullHold,
        options: "_SendOptions",
        attempt: Attempt,
    ) -> RESTResponse:
        if options.count_from == "admission":
            hold.count_from_admission()
        request, unsigned = prepared
        again: dict[str, Any] = {}
        if unsigned is not None and self._auth is not None:
            auth = self._auth

            async def sign_again() -> RESTRequest:
                nonlocal request
                request = await auth.rest_authenticate(unsigned)
                return request

            again = {"sign_again": sign_again, "resign_after_s": auth.resign_after_s}
        exchange = self._connection.exchange(
            request,
            encoded=options.encoded,
            deadline=attempt.deadline,
            on_sent=attempt.on_sent(hold),
            aiohttp_kwargs=options.aiohttp_kwargs,
            **again,
        )
        if attempt.own_deadline is None:
            response = await exchange
        else:
            attempt.own_deadline.start()
            async with attempt.own_deadline.scope():
                response = await exchange
        hold.count()
        try:
            if request.throttler_limit_id is not None:
                self._throttler.observe(
                    request.throttler_limit_id, response.status, response.headers
                )
            if response.status == 401 and request.is_auth_required and self._auth is not None:
                self._auth.unauthorized(request)
            for processor in self._post_processors:
                response = await processor.post_process(response)
        except BaseException:
            response.release()
            raise
        return response


class _SendOptions(NamedTuple):
    """Options of one call that are not part of its request."""

    priority: int
    weight: Weight
    count_from: CountFrom
    encoded: bool
    aiohttp_kwargs: Mapping[str, Any]


class _Prepared(NamedTuple):
    """A request to send, and before it was signed, if it may be signed again."""

    request: RESTRequest
    unsigned: RESTRequest | None = None


class _ErrorResponse(HTTPStatusError):
    """Carry an error response through the retries."""

    def __init__(self, response: RESTResponse) -> None:
        error = response.status_error(url="")
        super().__init__(
            method=error.method,
            url=error.url,
            status=error.status,
            headers=error.headers,
            body=error.body,
        )
        self.response = response
