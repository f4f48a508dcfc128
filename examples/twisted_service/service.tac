"""An API as a Twisted service: `twistd -ny service.tac`."""

import os

from twisted.application.service import Application as Container
from twisted.internet.defer import DeferredQueue

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter

router = SimpleRouter()
jobs = DeferredQueue(size=1000)


@router.get("/hello")
def hello(request: Request) -> str:
    return "Hello, world!"


class Jobs(MethodBasedView):
    def get(self, request: Request):
        """Take the next job; the reply comes when there is one."""
        return jobs.get()

    def post(self, request: Request):
        jobs.put(request.data)
        return "queued"


router.register("/jobs", Jobs, methods=["GET", "POST"])

listen = os.environ.get("LISTEN", "tcp:8080:interface=127.0.0.1")
application = Container("jobs")
Application(router=router).service(listen=listen).setServiceParent(application)
