"""What a subclass of `Application` of 1.1 overrides, and the TLS that it makes."""

import ssl

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from support.certificates import Certificate
from support.drain import call

# The keys of certificates are made once: they take time.
AUTHORITY = Certificate("authority")
STRANGER = Certificate("stranger")
SERVERS = [Certificate("first"), Certificate("second")]
CLIENT = Certificate("client", AUTHORITY)


@endpoint("/who", "GET")
def who(request):
    return name_of_peer(request.connection)


def router():
    made = SimpleRouter()
    made.register_endpoint(who)
    return made


def client_tls(certificate=None):
    """The TLS of a client, with a certificate of its own."""
    options = CertificateOptions()
    if certificate is not None:
        context = options.getContext()
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.key)
    return options


def name_of_peer(connection):
    """The name in the certificate that the other side has shown, None without one."""
    ask = getattr(connection.transport, "getPeerCertificate", None)
    found = ask() if ask is not None else None
    if found is None:
        return None
    return found.to_cryptography().subject.rfc4514_string().removeprefix("CN=")


async def serve(network, app):
    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    return service, (await service.listening).getHost().port


async def ask(network, port, certificate=None):
    """Who the server says that the client is; None if it did not let it in."""
    try:
        client = await network.connect(port, tls=client_tls(certificate))
    except (ConnectionError, SSL.Error):
        return "refused"
    return await client.ask(call("/who").encode())


# Overrides that are refused


@pytest.mark.parametrize("by", ["subclass", "mixin", "grandchild"])
def test_a_router_whose_override_has_no_effect_is_refused(by):
    inner = {"_correct_path": lambda self, path: path.lower()}
    mixin = type("Mixin", (), inner if by == "mixin" else {})
    kind = type("Ours", (mixin, SimpleRouter), {} if by == "mixin" else inner)
    if by == "grandchild":
        kind = type("Theirs", (kind,), {})
    with pytest.raises(ImproperlyConfigured, match=r"`_correct_path`.* override extract_url"):
        kind()


@pytest.mark.parametrize("way", ["register", "register_endpoint", "get"])
def test_a_router_may_override_how_it_registers_a_url(way):
    seen = []

    class Ours(SimpleRouter):
        def _register_url(self, route):
            seen.append(route.path)
            super()._register_url(route)

    ours, view = Ours(), endpoint("/x", "GET")(lambda request: None)
    if way == "get":
        ours.get("/x")(lambda request: None)
    elif way == "register":
        ours.register("/x", MethodBasedView, "GET")
    else:
        ours.register_endpoint(view)
    assert seen == ["/x/"]
    outer = Ours()
    outer.include(ours)
    assert [one.path for one in outer.urls] == ["/x/"]
    assert seen == ["/x/"]


@pytest.mark.parametrize(
    "name",
    [
        *("_init_factory", "_enable_compressing", "_set_factory_router"),
        *("_init_urlconf", "_allow_hixie76", "_middlewares"),
    ],
)
@pytest.mark.parametrize("by", ["subclass", "mixin", "instance"])
def test_what_has_no_effect_is_refused_at_start(name, by):
    value = [] if name == "_middlewares" else lambda *args, **options: None
    if by == "instance" and name == "_middlewares":
        pytest.skip("an instance has its own")
    mixin = type("Mixin", (), {name: value} if by == "mixin" else {})
    kind = type("Ours", (mixin, Application), {name: value} if by == "subclass" else {})
    app = kind(router=router())
    if by == "instance":
        setattr(app, name, value)
    for start in (app.generate_factory, app.service, lambda: app.tcp_service("localhost", 0)):
        with pytest.raises(ImproperlyConfigured, match=f"Ours has `{name}`") as raised:
            start()
        assert str(raised.value).count(". ") == 0  # one sentence
        assert "no effect now: " in str(raised.value)


@pytest.mark.parametrize("name", ["generate_url", "generate_factory", "url", "_whatever"])
def test_other_overrides_are_not_refused(name):
    kind = type("Ours", (Application,), {})
    if name == "_whatever":
        kind._whatever = lambda self: None
    else:
        setattr(kind, name, getattr(Application, name))
    assert kind(router=router()).generate_factory()


def test_the_classes_of_a_subclass_are_its_own():
    class Factory(RequestHandlerFactory):
        pass

    class Protocol(RequestHandlerProtocol):
        pass

    class Ours(Application):
        _factory = Factory
        _protocol = Protocol

    app = Ours(router=router())
    assert (app.factory, app.protocol) == (Factory, Protocol)
    assert type(app.generate_factory()) is Factory
    assert Application().factory is RequestHandlerFactory


# The context of a subclass


def overrides(folder):
    """Applications with a TLS context of their own, as in 1.1; the authority is in a file."""
    certificate, key = SERVERS[0].write(folder)
    authority, _ = AUTHORITY.write(folder)

    class Extended(Application):
        def _get_ssl_context(self):
            context = super()._get_ssl_context()
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority)
            return context

    def whole(self=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority)
        return context

    class Whole(Application):
        _get_ssl_context = whole

    class Mixin:
        def _get_ssl_context(self):
            return whole()

    instance = Application(router=router())
    instance._get_ssl_context = whole
    pair = {"certificate": certificate, "key": key, "router": router()}
    return {
        "extended": Extended(**pair),
        "whole, without files": Whole(router=router()),
        "mixin": type("Mixed", (Mixin, Application), {})(**pair),
        "instance": instance,
    }


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("kind", ["extended", "whole, without files", "mixin", "instance"])
@pytest_twisted.ensureDeferred
async def test_the_context_of_a_subclass_is_used(network, tmp_path, kind):
    service, port = await serve(network, overrides(tmp_path)[kind])
    assert b'"data":"client"' in await ask(network, port, CLIENT)
    assert await ask(network, port) == "refused"
    assert await ask(network, port, STRANGER) == "refused"
    await service.stopService()


@pytest.mark.parametrize("wrong", [42, "context", ssl.SSLContext])
def test_a_context_that_is_none_is_refused(wrong):
    app = Application(router=router())
    app._get_ssl_context = lambda: wrong
    with pytest.raises(ImproperlyConfigured, match=r"must return an ssl\.SSLContext or None"):
        app.service()


@pytest_twisted.ensureDeferred
async def test_a_subclass_may_choose_no_tls(network, tmp_path):
    certificate, key = SERVERS[0].write(tmp_path)
    app = Application(certificate=certificate, key=key, router=router())
    app._get_ssl_context = lambda: None
    service, port = await serve(network, app)
    client = await network.connect(port)
    assert b'"data":null' in await client.ask(call("/who").encode())
    client.sendClose(1000)
    await client.closed
    await service.stopService()


# Options


# Twisted's client logs the alert that it gets, on another reactor than asyncio's.
@pytest.mark.logs_errors
@pytest.mark.parametrize("by", ["constructor", "attribute"])
@pytest_twisted.ensureDeferred
async def test_clients_need_a_certificate_of_an_authority(network, tmp_path, by):
    certificate, key = SERVERS[0].write(tmp_path)
    authority, _ = AUTHORITY.write(tmp_path)
    options = {"ssl_ca_certs": authority}
    app = Application(
        None, None, certificate, key, router=router(), **(options if by[0] == "c" else {})
    )
    if by == "attribute":
        app.ssl_ca_certs = authority
    service, port = await serve(network, app)
    assert b'"data":"client"' in await ask(network, port, CLIENT)
    assert await ask(network, port) == "refused"
    assert await ask(network, port, STRANGER) == "refused"
    await service.stopService()


@pytest.mark.parametrize("password", ["correct horse", "pässwörd", b"bytes"])
@pytest_twisted.ensureDeferred
async def test_the_key_may_have_a_password(network, tmp_path, password):
    text = password if isinstance(password, str) else password.decode()
    files = SERVERS[0].write(tmp_path, text)
    app = Application(None, None, *files, router=router(), ssl_keyfile_password=password)
    service, port = await serve(network, app)
    assert b'"data":null' in await ask(network, port)
    await service.stopService()


@pytest.mark.parametrize("password", [None, "wrong", b"\xff"])
def test_a_password_that_is_missing_or_wrong_is_told_and_not_shown(tmp_path, password):
    files = SERVERS[0].write(tmp_path, "correct horse")
    app = Application(None, None, *files, router=router(), ssl_keyfile_password=password)
    with pytest.raises(ImproperlyConfigured, match=r"first\.key") as raised:
        app.service()
    assert "horse" not in str(raised.value)
    assert "wrong" not in str(raised.value)
    if password is None:
        assert "ssl_keyfile_password" in str(raised.value)


@pytest.mark.parametrize("wrong", ["absent", "empty", "key"])
def test_authorities_that_cannot_be_used_are_named(tmp_path, wrong):
    certificate, key = SERVERS[0].write(tmp_path)
    path = {"absent": tmp_path / "absent.pem", "empty": tmp_path / "empty.pem", "key": key}[wrong]
    (tmp_path / "empty.pem").touch()
    app = Application(None, None, certificate, key, router=router(), ssl_ca_certs=path)
    with pytest.raises(ImproperlyConfigured, match=r"\(ssl_ca_certs\) cannot be used") as raised:
        app.service()
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"certificate": "c.pem"},
        {"key": "k.pem"},
        {"ssl_ca_certs": "ca.pem"},
        {"ssl_keyfile_password": "secret"},
    ],
)
def test_half_a_configuration_raises_only_at_start(options):
    app = Application(router=router(), **options)
    assert app.isSecure is False
    assert app.url.startswith("ws://")
    assert app.generate_url("localhost", 1) == "ws://localhost:1/"
    assert app.generate_factory()
    for start in (app.service, lambda: app.tcp_service("localhost", 0)):
        with pytest.raises(ImproperlyConfigured, match="a `certificate` and its `key`"):
            start()


# Renewed files


def renewable(folder, kind):
    """An application whose certificate is in `live.pem` and `live.key`."""
    renew(folder, 0)
    pair = {"certificate": folder / "live.pem", "key": folder / "live.key", "router": router()}
    if kind == "kept":
        return Application(ssl_reload=False, **pair)
    if kind == "files":
        return Application(**pair)

    class Own(Application):
        def _get_ssl_context(self):
            return super()._get_ssl_context()

    return Own(**pair)


def renew(folder, number):
    """Put other files in their place, as certbot does."""
    for path, name in zip(SERVERS[number].write(folder), ("live.pem", "live.key"), strict=True):
        path.replace(folder / name)


@pytest.mark.parametrize("kind", ["files", "own", "kept"])
@pytest_twisted.ensureDeferred
async def test_new_handshakes_use_a_renewed_certificate(network, tmp_path, kind):
    if kind == "own" and type(network.reactor).__name__ != "AsyncioSelectorReactor":
        pytest.skip("a context of one's own needs the asyncio reactor")
    service, port = await serve(network, renewable(tmp_path, kind))
    before = await network.connect(port, tls=client_tls())
    renew(tmp_path, 1)
    after = await network.connect(port, tls=client_tls())
    assert [name_of_peer(one) for one in (before, after)] == [
        "first",
        "first" if kind == "kept" else "second",
    ]
    for client in (before, after):
        assert b'"data":null' in await client.ask(call("/who").encode())
    service.stopService()
    await before.closed
    await after.closed


@pytest.mark.logs_errors
@pytest.mark.parametrize("fault", ["missing", "broken", "not a pair"])
@pytest_twisted.ensureDeferred
async def test_renewed_files_that_cannot_be_used_leave_the_old_ones(
    network, tmp_path, fault, caplog
):
    service, port = await serve(network, renewable(tmp_path, "files"))
    if fault == "missing":
        (tmp_path / "live.key").unlink()
    elif fault == "broken":
        (tmp_path / "live.pem").write_text("-----BEGIN CERTIFICATE-----\nhalf")
    else:
        (tmp_path / "live.pem").write_bytes(SERVERS[1].pem)
    clients = [await network.connect(port, tls=client_tls()) for _ in range(3)]
    assert {name_of_peer(one) for one in clients} == {"first"}
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(logged) == 1
    assert "live.pem" in logged[0]
    renew(tmp_path, 1)  # the next try is complete
    clients.append(await network.connect(port, tls=client_tls()))
    assert name_of_peer(clients[-1]) == "second"
    service.stopService()
    for client in clients:
        await client.closed
