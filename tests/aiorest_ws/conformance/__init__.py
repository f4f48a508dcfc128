"""RFC 6455 and RFC 7692 as tables of cases, and a client that plays them over a socket."""
