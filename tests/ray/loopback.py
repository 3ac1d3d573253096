"""Run `ray` or `magicstyle` with every socket of Ray on 127.0.0.1, which Ray would replace by the machine's address."""

import sys

from ray._private import node, services, worker

for module in (services, node, worker):
    for name in ("resolve_ip_for_localhost", "get_node_ip_address"):
        if hasattr(module, name):
            change = (lambda host: host) if name.startswith("resolve") else (lambda *args, **more: "127.0.0.1")
            setattr(module, name, change)

if __name__ == "__main__":
    program, *sys.argv[1:] = sys.argv[1:]
    if program == "ray":
        from ray.scripts.scripts import main
    else:
        from magicstyle.headless.cli import main
    sys.exit(main())
