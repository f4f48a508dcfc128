"""The first router, without an Application."""

from twisted.internet.endpoints import serverFromString

from aiorest_ws import RequestHandlerFactory
from aiorest_ws.transports import install_reactor
from first_server import router

reactor = install_reactor()
factory = RequestHandlerFactory(router=router)
listening = serverFromString(reactor, "tcp:8080:interface=127.0.0.1").listen(factory)
listening.addCallback(lambda port: print("Port", port.getHost().port, flush=True))
reactor.run()
