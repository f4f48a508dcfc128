"""Views with arguments that the server fills."""

import functools

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter

sales = {"north": [3, 4], "south": [5]}


def report(request, region, limit=10):
    return sales[region][:limit]


def with_language(function):
    """Pass on the language of the client."""

    @functools.wraps(function)
    def wrapper(request, *args, **kwargs):
        language = getattr(request, "language", "en")
        return function(request, *args, language=language, **kwargs)

    return wrapper


@endpoint("/greeting", methods="GET", injected=("language",))
@with_language
def greeting(request, name, *, language):
    return f"Bonjour {name}" if language == "fr" else f"Hello {name}"


router = SimpleRouter()
for region in sales:
    view = endpoint(f"/sales/{region}", methods="GET")
    router.register_endpoint(view(functools.partial(report, region=region)))
router.register_endpoint(greeting)

app = Application(router=router)
