"""The blocks of a page, on ranks."""

from __future__ import annotations

import contextlib
import io
import os


def in_turn(codes, folder):
    """Run them as one session; what was printed, and what the last `minimize` found."""
    os.chdir(folder)
    session, printed = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for code in codes:
            exec(compile(code, "a page", "exec"), session)
    return {"printed": printed.getvalue(), "x": session["result"].x, "f": session["result"].fun}
