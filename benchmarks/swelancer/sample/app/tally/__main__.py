"""Serve Tally: `python3 -m tally --port 8000 --db tally.db`."""

import argparse
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tally.app import create_app


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format, *args):
        pass


def main():
    parser = argparse.ArgumentParser(prog="tally", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--db", default="tally.db", help="the SQLite file; made if it does not exist")
    options = parser.parse_args()
    with make_server(options.host, options.port, create_app(options.db), Server, QuietHandler) as server:
        print(f"Tally listens on http://{options.host}:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
