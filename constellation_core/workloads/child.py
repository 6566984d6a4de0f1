"""``python -m constellation_core.workloads.child FILE SECONDS``: the process that reads a
services file; see :mod:`constellation_core.workloads.reading`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from constellation_core.workloads.loader import ServicesError, StoppedError, load_services
from constellation_core.workloads.reading import ANSWER, Answer, too_long


def main() -> None:
    """Answer on standard output, and end at once, whatever the file has set going."""
    path, seconds = Path(sys.argv[1]), float(sys.argv[2])
    answers = os.dup(1)
    # What the file prints must not get among the answer.
    os.dup2(2, 1)
    threading.Thread(target=_end_with_the_agent, daemon=True).start()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StoppedError(too_long(seconds))

    signal.signal(signal.SIGALRM, stop)
    # Repeated, since the file may catch it and go on.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    status = 1
    try:
        answer = ANSWER.dump_json(_read(path))
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(answers, "wb") as out:
            out.write(answer)
        sys.stdout.flush()
        sys.stderr.flush()
        status = 0
    finally:
        # Whatever the file has done to this process: it tells the agent, and nobody else.
        os._exit(status)


def _read(path: Path) -> Answer:
    try:
        return Answer(services=load_services(path))
    except StoppedError as error:
        return Answer(path=str(path), reason=str(error))
    except ServicesError as error:
        return Answer(path=str(error.path), line=error.line, reason=error.reason)


def _end_with_the_agent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
