"""Views with arguments that the server fills."""

import functools

from aiorest_ws import Application, Request, SimpleRouter

router = SimpleRouter()
sales = {"north": [3, 4], "south": [5]}


def report(request: Request, region, limit=10):
    return sales[region][:limit]


def with_language(function):
    """Pass on the language of the client."""

    @functools.wraps(function)
    def wrapper(request, *args, **kwargs):
        language = getattr(request, "language", "en")
        return function(request, *args, language=language, **kwargs)

    return wrapper


@router.get("/greeting", injected=("language",))
@with_language
def greeting(request: Request, name, *, language):
    return f"Bonjour {name}" if language == "fr" else f"Hello {name}"


for region in sales:
    router.get(f"/sales/{region}")(functools.partial(report, region=region))

app = Application(router=router)
