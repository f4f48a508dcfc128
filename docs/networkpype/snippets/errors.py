from networkpype import (
    DeadlineExceeded,
    HTTPStatusError,
    NetworkpypeError,
    TransportError,
)


async def describe(manager, url, timeout):
    try:
        answer = await manager.execute_request(url, "api", timeout=timeout)
    except HTTPStatusError as error:
        return f"status {error.status} after {error.attempts}: {error.body}"
    except DeadlineExceeded:
        return f"not done within {timeout} s"
    except TransportError as error:
        return f"no answer: {type(error).__name__}"
    except NetworkpypeError as error:
        return f"something else: {error}"
    return f"answer: {answer}"
