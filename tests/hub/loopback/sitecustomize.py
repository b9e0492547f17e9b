"""Put on PYTHONPATH, ends a process that turns to another machine: nothing here may."""

import os
import sys
import traceback

_HERE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "", None}


def _watch(event, arguments):
    if event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if (
        host == "datasets-server.127.0.0.1"
    ):  # where the datasets library looks for the viewer of the Hub that it is given
        raise OSError("no such host")
    if host not in _HERE:
        os.write(2, f"This process turned to another machine: {event} {host}\n".encode())
        traceback.print_stack()
        os._exit(86)


sys.addaudithook(_watch)
