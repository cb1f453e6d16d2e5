"""What all tests take for granted of the process that they run in."""

from __future__ import annotations

import signal

# A shell's background jobs ignore Ctrl-C, and so would all that is started here to receive it.
signal.signal(signal.SIGINT, signal.default_int_handler)
