"""What is seen on a real terminal: progress while it lasts, colours unless refused."""

import os
import pty
import sys
import textwrap

import pytest

COUNTING = """
    from outlast.cli.terminal import counting, line
    with counting("reading:", 3) as count:
        for _ in range(3):
            count(1)
    line("done", style="red")
"""


def on_a_terminal(program: str, **environ: str) -> str:
    """Everything that the program writes to its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"TERM": "xterm", **environ})
        os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(program)])
    seen = b""
    try:
        while piece := os.read(terminal, 65_536):
            seen += piece
    except OSError:  # Linux says so when the other side has closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    return seen.decode()


def test_long_work_is_counted_and_the_count_is_gone_at_the_end() -> None:
    seen = on_a_terminal(COUNTING)

    assert "reading: 3 of 3" in seen
    assert seen.rstrip().endswith("\x1b[31mdone\x1b[0m")
    assert "\x1b[2K" in seen.rpartition("3 of 3")[2]  # the line was erased


def test_no_color_is_respected() -> None:
    seen = on_a_terminal(COUNTING, NO_COLOR="1")

    assert "\x1b[31m" not in seen
    assert "done" in seen


@pytest.mark.parametrize("job_id", ["a[/b]", "[red]"])
def test_an_id_is_no_markup(job_id: str) -> None:
    seen = on_a_terminal(
        f"""
        from outlast.cli.terminal import waiting
        with waiting("job {job_id}: waiting"):
            pass
        """
    )

    assert f"job {job_id}: waiting" in seen


def test_output_goes_to_standard_output_while_progress_is_shown() -> None:
    """rich would move it to the progress's own screen, and a file would stay empty."""
    seen = on_a_terminal(
        """
        import os, sys
        read, write = os.pipe()
        os.dup2(write, 1)
        from outlast.cli.terminal import counting, line
        with counting("publishing:") as count:
            line("the-id")
            sys.stdout.flush()
        assert os.read(read, 100) == b"the-id\\n"
        """
    )

    assert "publishing:" in seen
    assert "the-id" not in seen
