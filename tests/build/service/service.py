"""A service with one dependency: answers one request, or with --check says that it could."""

import os
import sys

import h11


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        return
    answer = h11.Response(status_code=200, headers=[("Content-Length", "0")])
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    connection.next_event()
    print(connection.send(answer).split(b"\r\n")[0].decode(), os.getuid(), *sys.argv[1:])


main()
