import aiohttp

from networkpype import RESTMethod, RESTRequest


async def send_json(manager, url):
    await manager.execute_request(
        url, "api", method=RESTMethod.POST, data={"side": "buy", "note": None}
    )


async def send_bytes(manager, url):
    await manager.execute_request(
        url,
        "api",
        method=RESTMethod.PUT,
        data=b"\x00\x01",
        headers={"Content-Type": "application/octet-stream"},
    )


async def send_file(manager, url, path):
    """Send a file from its current position, without reading it into memory."""
    with path.open("rb") as file:
        await manager.execute_request(url, "api", method=RESTMethod.PUT, data=file)


async def send_form(manager, url, path):
    form = aiohttp.FormData()
    form.add_field("title", "Statement")
    with path.open("rb") as file:
        form.add_field("file", file, filename=path.name)
        await manager.execute_request(url, "api", method=RESTMethod.POST, data=form)


async def download(manager, url, path, show_progress):
    request = RESTRequest(RESTMethod.GET, url, throttler_limit_id="api")
    async with await manager.call(request, timeout=600) as response:
        if response.status >= 400:
            await response.read()  # otherwise the error would have no body
            response.raise_for_status()
        with path.open("wb") as file:
            async for piece in response.iter_bytes(progress=show_progress):
                file.write(piece)
