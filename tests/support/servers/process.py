"""The Gemini or the OpenAI server as a process; its first line of output is its address.

python -m tests.support.servers.process gemini --faults 0.2 --latency 0.8 --log requests.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer

SERVERS = {"gemini": GeminiServer, "openai": OpenAIServer}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("protocol", choices=tuple(SERVERS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--kinds", nargs="+", help="of faults; those that are transient")
    parser.add_argument("--quota", type=int)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    kinds = {"kinds": tuple(args.kinds)} if args.kinds else {}
    server = SERVERS[args.protocol](
        args.port,
        args.latency,
        args.faults,
        quota=args.quota,
        log=args.log,
        keep_bodies=False,
        **kinds,
    )
    print(server.url, flush=True)
    server.http.serve_forever()


if __name__ == "__main__":
    main()
