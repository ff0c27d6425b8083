"""remuxd in a process that cannot write to a file: every byte of it fails (EFBIG).

    python -m tests.support.no_disk serve --port 0

Pipes and sockets are no files.
"""

import resource
import tempfile

from proxy.cli import main

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    with tempfile.TemporaryFile(buffering=0) as probe:
        probe.write(b"x")
except OSError:
    pass
else:
    raise SystemExit("this process can write to files")
main()
