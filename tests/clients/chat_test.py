"""A conversation with `skein chat` on a pseudo-terminal, as a person has it.

Reads SKEIN (the binary) from the environment.
"""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import time

import pytest

SKEIN = os.environ["SKEIN"]
FIXTURE = pathlib.Path(__file__).parents[2] / "fixtures" / "qwen2"
CTRL_C, CTRL_D = b"\x03", b"\x04"
PROMPT = "> "
DEADLINE_SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The small checkpoint, never silent and with a context too long to be used up meanwhile."""
    folder = tmp_path_factory.mktemp("model") / "qwen2"
    shutil.copytree(FIXTURE, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"max_position_embeddings": 1 << 20, "use_sliding_window": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Terminal:
    """A process on a terminal of its own, and all that it has shown."""

    def __init__(self, *arguments, home):
        self.shown = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            environment = {"HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8"}
            os.execve(SKEIN, [SKEIN, *map(str, arguments)], environment)

    def type(self, text):
        os.write(self.terminal, text if isinstance(text, bytes) else text.encode())

    def wait_for(self, text):
        """Reads until `text` is shown; what was shown up to there, without control sequences."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in (plain := re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {plain!r}"
            if select.select([self.terminal], [], [], left)[0]:
                try:
                    self.shown += os.read(self.terminal, 4096).decode(errors="replace")
                except OSError:  # the other side is closed
                    pytest.fail(f"it ended without {text!r}: {plain!r}")
        before, self.shown = plain.split(text, 1)
        return before

    def exit_code(self):
        """Reads to the end."""
        with contextlib.suppress(OSError):
            while data := os.read(self.terminal, 4096):
                self.shown += data.decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = None
        return code

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture
def chat(model, tmp_path):
    def start(*options):
        terminal = Terminal("chat", "--model", model, *options, home=tmp_path)
        terminals.append(terminal)
        terminal.wait_for("/reset forgets the conversation")
        terminal.wait_for(PROMPT)
        return terminal

    terminals = []
    yield start
    for terminal in terminals:
        terminal.close()


def ask(chat, text):
    chat.type(text + "\r")
    chat.wait_for(text)
    return chat.wait_for("\n\r" + PROMPT).strip()


def test_history_is_part_of_the_question_until_reset(chat):
    talk = chat("--max-tokens", "12", "--temperature", "0")
    first = ask(talk, "Hello there")
    assert first
    assert ask(talk, "Hello there") != first
    talk.type("/reset\r")
    talk.wait_for(PROMPT)
    assert ask(talk, "Hello there") == first


def test_ctrl_c_stops_the_answer_and_not_the_chat(chat):
    talk = chat("--max-tokens", "900000", "--temperature", "0")
    talk.type("Tell me everything\r")
    talk.wait_for("Tell me everything\r\n")
    # Something of the answer is there, and more is to come.
    time.sleep(0.5)
    talk.type(CTRL_C)
    talk.wait_for("(stopped)")
    talk.wait_for(PROMPT)
    # At the prompt it drops the line.
    talk.type(b"half a line" + CTRL_C)
    talk.wait_for(PROMPT)
    talk.type("/nonsense\r")
    talk.wait_for("there is no /nonsense")
    talk.wait_for(PROMPT)
    talk.type(CTRL_D)
    assert talk.exit_code() == 0
