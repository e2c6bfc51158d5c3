"""A conversation with `skein chat` on a pseudo-terminal, as a person has it: with a model of its own
process and with one of a server; and `skein status --watch`.

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
import subprocess
import time
import urllib.request

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
            assert time.monotonic() < deadline, f"no {text!r} in {plain!r}"
            if not self.read(deadline):
                pytest.fail(f"it ended without {text!r}: {plain!r}")
        before, self.shown = plain.split(text, 1)
        return before

    def read(self, deadline):
        """Reads what is shown until `deadline`; whether there may be more."""
        if not select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            return True
        try:
            self.shown += os.read(self.terminal, 4096).decode(errors="replace")
        except OSError:  # the other side is closed
            return False
        return True

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


class Server:
    """`skein serve` of a model, ready to answer."""

    def __init__(self, model, home):
        arguments = [SKEIN, "serve", "--model", str(model), "--listen", "127.0.0.1:0"]
        self.log = open(home / "server.log", "w")
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=self.log, text=True, env={"HOME": str(home)}
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]

    def counter(self, name):
        with urllib.request.urlopen(self.url + "/metrics", timeout=DEADLINE_SECONDS) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + " "))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def server(model, tmp_path):
    server = Server(model, tmp_path)
    yield server
    server.close()


@pytest.fixture(params=["local", "remote"])
def place(request, model):
    """The options that say who answers."""
    if request.param == "local":
        return ["--model", model]
    return ["--url", request.getfixturevalue("server").url]


@pytest.fixture
def open_terminal(tmp_path):
    def start(*arguments):
        terminal = Terminal(*arguments, home=tmp_path)
        terminals.append(terminal)
        return terminal

    terminals = []
    yield start
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def chat(open_terminal, place):
    def start(*options):
        terminal = open_terminal("chat", *place, *options)
        terminal.wait_for("/reset forgets the conversation")
        terminal.wait_for(PROMPT)
        return terminal

    return start


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


def begin_endless_answer(talk):
    talk.type("Tell me everything\r")
    talk.wait_for("Tell me everything\r\n")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not talk.shown:
        assert talk.read(deadline) and time.monotonic() < deadline


@pytest.mark.parametrize("place", ["remote"], indirect=True)
def test_ctrl_c_ends_the_work_of_the_server(chat, server):
    talk = chat("--max-tokens", "900000", "--temperature", "0")
    begin_endless_answer(talk)
    talk.type(CTRL_C)
    talk.wait_for("(stopped)")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while server.counter("skein_gateway_answers_abandoned_total") < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("place", ["remote"], indirect=True)
def test_a_server_that_dies_is_told_and_the_chat_stays(chat, server):
    talk = chat("--max-tokens", "900000", "--temperature", "0")
    begin_endless_answer(talk)
    server.kill()
    talk.wait_for("before the answer was complete")
    talk.wait_for(PROMPT)
    talk.type("Are you there?\r")
    talk.wait_for("no server answers at " + server.url)
    talk.wait_for(PROMPT)
    talk.type("/exit\r")
    assert talk.exit_code() == 0


def test_watching_redraws_in_place_and_restores_the_terminal(open_terminal, server):
    watch = open_terminal("status", "--watch", "--url", server.url)
    for _ in range(2):
        watch.wait_for("in one process")
        watch.wait_for(" p99")
    watch.type(CTRL_C)
    assert watch.exit_code() == 0
    # The cursor is there again, and so is what was on the screen before.
    assert watch.shown.endswith("\x1b[?25h\x1b[?1049l"), watch.shown
