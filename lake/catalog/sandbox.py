"""Takes from this process, for good, what SQL of a user must not have: files to write, connections, memory, time.

The kernel holds these, whatever the libraries do. `confine` comes before a process has threads, as each thread is
bound by what was there when it began; the others can come at any time.

| | Linux | macOS |
|---|---|---|
| write to a file | RLIMIT_FSIZE; create, remove, cut short: Landlock (5.13, truncate 6.2) | RLIMIT_FSIZE |
| connect, bind | seccomp: no sockets (x86-64, ARM64); Landlock: no TCP (6.7) | no |
| run a program | seccomp | no |
| memory | RLIMIT_DATA | no |
| time | an alarm, which nothing can hold up | the same |

Where the kernel lacks one of them, or a container forbids it, the others hold. Sources: the kernel's
userspace-api/landlock.rst and seccomp_filter.rst, setrlimit(2), include/uapi/linux/{landlock,seccomp,filter,audit}.h.
"""

import ctypes
import platform
import resource
import signal
import struct
import sys
from pathlib import Path

LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
# WRITE_FILE, REMOVE_DIR, REMOVE_FILE and the seven MAKE_…; TRUNCATE since the third version of Landlock.
LANDLOCK_WRITES, LANDLOCK_TRUNCATE = 1 << 1 | 0b1_1111_1111 << 4, 1 << 14
LANDLOCK_TCP = 0b11
# Abstract sockets of, and signals to, processes outside.
LANDLOCK_OUTSIDE = 0b11

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER, SECCOMP_ALLOW, SECCOMP_EPERM = 2, 0x7FFF_0000, 0x0005_0000 | 1
BPF_LOAD, BPF_JUMP_IF_EQUAL, BPF_JUMP_IF_NOT_LESS, BPF_RETURN = 0x20, 0x15, 0x35, 0x06
# Numbers of system calls, by machine: its AUDIT_ARCH, what makes connections, what runs or changes other programs.
# io_uring makes sockets too.
IO_URING_SETUP = 425
CALLS = {
    "x86_64": (0xC000_003E, (41, IO_URING_SETUP), (59, 322, 101, 311)),
    "aarch64": (0xC000_00B7, (198, IO_URING_SETUP), (221, 281, 117, 271)),
}
# From here on x86-64 has its calls a second time (x32).
SECOND_TABLE = 0x4000_0000


def confine(network: bool) -> None:
    """Let this process write to no file and, unless it may use the `network`, open no connection."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # The parent's end is this process's end.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _landlock(libc, network)
    _seccomp(libc, network)


def bound_memory(more: int) -> None:
    """Let this process have `more` bytes beside those it has now. Linux only: elsewhere nothing counts them."""
    if sys.platform == "linux":
        limit = data_bytes() + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def bound_time(seconds: float) -> None:
    """End this process, by SIGALRM, after `seconds` of wall-clock time; 0 takes it back."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def data_bytes() -> int:
    """What RLIMIT_DATA counts of this process: its private memory that can be written to."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def _landlock(libc: ctypes.CDLL, network: bool) -> None:
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return
    # What is handled and allowed by no rule is forbidden.
    handled = struct.pack(
        "QQQ",
        LANDLOCK_WRITES | (LANDLOCK_TRUNCATE if version >= 3 else 0),
        LANDLOCK_TCP if version >= 4 and not network else 0,
        LANDLOCK_OUTSIDE if version >= 6 else 0,
    )
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    if ruleset >= 0:
        libc.syscall(LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))


def _seccomp(libc: ctypes.CDLL, network: bool) -> None:
    if platform.machine() not in CALLS:
        return
    arch, connecting, running = CALLS[platform.machine()]
    refused = running if network else running + connecting
    # Offsets of struct seccomp_data: the call's number at 0, the machine at 4. Jumps count the instructions left out.
    program = [
        (BPF_LOAD, 0, 0, 4),
        (BPF_JUMP_IF_EQUAL, 1, 0, arch),
        (BPF_RETURN, 0, 0, SECCOMP_EPERM),
        (BPF_LOAD, 0, 0, 0),
    ]
    program += [(BPF_JUMP_IF_NOT_LESS, len(refused) + 1, 0, SECOND_TABLE)]
    program += [(BPF_JUMP_IF_EQUAL, len(refused) - place, 0, call) for place, call in enumerate(refused)]
    program += [(BPF_RETURN, 0, 0, SECCOMP_ALLOW), (BPF_RETURN, 0, 0, SECCOMP_EPERM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = ctypes.create_string_buffer(struct.pack("H6xQ", len(program), ctypes.addressof(code)))
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0)
