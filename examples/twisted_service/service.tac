"""An API as a Twisted service: `twistd -ny service.tac`."""

import os

from twisted.application.service import Application as Container
from twisted.internet.defer import DeferredQueue

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView

jobs = DeferredQueue(size=1000)


@endpoint("/hello", methods="GET")
def hello(request):
    return "Hello, world!"


class Jobs(MethodBasedView):
    def get(self, request):
        """Take the next job; the reply comes when there is one."""
        return jobs.get()

    def post(self, request):
        jobs.put(request.data)
        return "queued"


router = SimpleRouter()
router.register_endpoint(hello)
router.register("/jobs", Jobs, methods=["GET", "POST"])

listen = os.environ.get("LISTEN", "tcp:8080:interface=127.0.0.1")
application = Container("jobs")
Application(router=router).service(listen=listen).setServiceParent(application)
