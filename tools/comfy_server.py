"""A real ComfyUI process with this pack in it, driven over HTTP and WebSocket: for the demo and the tests."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..models.errors import UserError
from ..run import find_comfyui, link_folder

PACK = Path(__file__).resolve().parents[1]
START_TIMEOUT = 600  # seconds; importing torch from a cold disk on a busy machine takes minutes


class WorkflowError(UserError):
    """ComfyUI refused a workflow or failed in it; the message names the node."""


@dataclass
class Run:
    """What one execution gave."""

    outputs: dict
    """{node id: its ui outputs}, as in ComfyUI's history."""
    seconds: dict[str, float] = field(default_factory=dict)
    """{node id: seconds}, for the nodes that were executed and not taken from the cache."""
    messages: list = field(default_factory=list)
    """All WebSocket messages of this run, in order: (type, data)."""
    prompt_id: str = ""


def accelerator_found() -> bool:
    """Whether torch sees a GPU; without one ComfyUI has to be told."""
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def comfyui_folder() -> Path:
    """ComfyUI's folder. Raises UserError when there is none."""
    folder = find_comfyui(PACK)
    if folder is None:
        raise UserError("ComfyUI was not found: start with `python run.py ...`, or set COMFYUI_PATH to its folder.")
    return folder


def command(base: Path, *options: str, cpu: bool) -> list[str]:
    """The command that starts ComfyUI with `base` as its base directory."""
    python = os.environ.get("ICPORTRAIT_COMFYUI_PYTHON") or sys.executable
    line = [python, str(comfyui_folder() / "main.py"), "--base-directory", str(base), "--disable-api-nodes"]
    line += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch"]
    return line + (["--cpu", "--use-pytorch-cross-attention"] if cpu else []) + list(options)


def prepare_base(base: Path) -> None:
    """Make `base` a base directory whose only custom node is this pack."""
    for name in ("models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link_folder(base / "custom_nodes" / "ComfyUI-IC-Portrait", PACK)


def child_variables() -> dict[str, str]:
    """Environment of the ComfyUI process: a ComfyUI with its own Python must not see our packages."""
    variables = dict(os.environ)
    if variables.get("ICPORTRAIT_COMFYUI_PYTHON"):
        variables.pop("PYTHONPATH", None)
    return variables


class ComfyServer:
    """A ComfyUI process on a free port of this machine. Use as a context manager."""

    def __init__(self, base: Path, cpu: bool | None = None, options: tuple[str, ...] = ()):
        """
        Args:
            base: base directory to create or reuse; outputs land in base/output, the log in base/comfyui.log.
            cpu: force the CPU; None = when torch sees no GPU.
            options: more arguments for main.py.
        """
        self.base, self.options = base, options
        self.cpu = not accelerator_found() if cpu is None else cpu
        self.log = base / "comfyui.log"
        self.process = None
        self.port = 0
        self._object_info = None

    def __enter__(self) -> "ComfyServer":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of the running server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers. Raises UserError with the end of its log when it does not."""
        prepare_base(self.base)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        line = command(self.base, "--port", str(self.port), *self.options, cpu=self.cpu)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=child_variables(), cwd=comfyui_folder())
        end = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.get("/system_stats")
                return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise UserError(f"ComfyUI did not start; the end of {self.log}:\n{self.log_text()[-3000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the process that `start` began."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_text(self) -> str:
        """All that ComfyUI printed so far."""
        return self.log.read_text("utf-8", errors="replace") if self.log.is_file() else ""

    def get(self, path: str, timeout: float = 30):
        """GET; JSON is decoded, anything else is bytes."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body

    def post(self, path: str, data: dict, timeout: float = 30):
        """POST JSON. Returns the decoded answer, or None for an empty one."""
        request = urllib.request.Request(
            self.url + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            body = answer.read()
            return json.loads(body) if body else None

    @property
    def object_info(self) -> dict:
        """ComfyUI's description of all nodes, as /object_info gives it."""
        if self._object_info is None:
            self._object_info = self.get("/object_info")
        return self._object_info

    def queue(self, prompt: dict, client_id: str = "") -> str:
        """Queue a graph in API format and return its prompt id. Raises WorkflowError when ComfyUI refuses it."""
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": client_id})["prompt_id"]
        except urllib.error.HTTPError as error:
            raise WorkflowError(_refusal(json.loads(error.read()), prompt)) from None

    def run_workflow(
        self, prompt: dict, on_message: Callable[[str, dict], None] | None = None, timeout: float = 1800
    ) -> Run:
        """Queue a graph in API format and wait for its end.

        Args:
            on_message: called with (type, data) of every WebSocket message of this run.

        Raises:
            WorkflowError: refused, failed or interrupted.
            TimeoutError: not done after `timeout` seconds.
        """
        return asyncio.run(asyncio.wait_for(self._follow(prompt, on_message), timeout))

    async def _follow(self, prompt: dict, on_message) -> Run:
        import aiohttp

        client = uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as socket_:
                prompt_id = await asyncio.to_thread(self.queue, prompt, client)
                run = Run(outputs={}, prompt_id=prompt_id)
                node, since = None, time.monotonic()
                async for message in socket_:
                    if message.type != aiohttp.WSMsgType.TEXT:
                        continue  # binary messages are preview pictures
                    body = json.loads(message.data)
                    kind, data = body["type"], body.get("data") or {}
                    if data.get("prompt_id") != prompt_id:
                        continue
                    run.messages.append((kind, data))
                    if on_message:
                        on_message(kind, data)
                    if kind == "executing":
                        now = time.monotonic()
                        if node is not None:
                            run.seconds[node] = run.seconds.get(node, 0.0) + now - since
                        node, since = data.get("node"), now
                        if node is None:
                            break
                else:
                    raise WorkflowError(f"ComfyUI closed the connection; see {self.log}")
        status = await asyncio.to_thread(self.history, prompt_id)
        run.outputs = status["outputs"]
        if status["status"]["status_str"] != "success":
            raise WorkflowError(_failure(status["status"]["messages"]))
        return run

    def history(self, prompt_id: str) -> dict:
        """The finished run's history entry; waits a little, because it is written after the last message."""
        for _ in range(100):
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                return entry
            time.sleep(0.05)
        raise WorkflowError(f"ComfyUI has no history of run {prompt_id}")

    def view(self, image: dict) -> bytes:
        """The bytes of one entry of an output's `images`."""
        wanted = {key: image.get(key, "") for key in ("filename", "subfolder", "type")}
        return self.get("/view?" + urllib.parse.urlencode(wanted))

    def interrupt(self) -> None:
        """Cancel what is running."""
        self.post("/interrupt", {})


def _refusal(answer: dict, prompt: dict) -> str:
    """One text out of ComfyUI's answer to a graph it does not accept."""
    lines = [answer["error"]["message"]]
    for node_id, entry in (answer.get("node_errors") or {}).items():
        kind = prompt.get(node_id, {}).get("class_type", "?")
        lines += [f"node {node_id} ({kind}): {error['message']}: {error['details']}" for error in entry["errors"]]
    return "\n".join(lines)


def _failure(messages: list) -> str:
    """One text out of a failed run's status messages."""
    for kind, data in messages:
        if kind == "execution_error":
            return f"node {data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return f"interrupted in node {data['node_id']} ({data['node_type']})"
    return "the run failed without a message"
