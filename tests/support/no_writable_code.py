"""remuxd in a process whose memory is never writable and executable, as under a hardened unit.

    python -m tests.support.no_writable_code serve --port 0

prctl(2), PR_SET_MDWE (Linux 6.3), is what systemd's MemoryDenyWriteExecute= uses.
"""

import ctypes
import mmap

PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1

if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0:
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        pass
    else:
        raise SystemExit("this process can write code")

from proxy.cli import main  # noqa: E402 - from here on

main()
