"""What is taken from a hub, what is not, and what a missing model costs."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants as hub
import pytest
import torch

import residscope as rs
from residscope.errors import BadCheckpoint, ModelNotFound
from tests.models import random_llama, save

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """A hub of one repository, on this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.folder = folder
        self.taken: list[str] = []


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        content, status = b"{}", 404
        if path.startswith("/api/models/some/model/"):
            names = [p.name for p in self.server.folder.iterdir()]
            files = [{"type": "file", "path": n, "rfilename": n, "size": 1, "oid": n} for n in names]
            content = json.dumps(
                files if "/tree/" in path else {"id": "some/model", "sha": COMMIT, "siblings": files}
            ).encode()
            status = 200
        elif path.startswith("/some/model/resolve/"):
            name = path.rsplit("/", 1)[1]
            content, status = (self.server.folder / name).read_bytes(), 200
            self.server.taken.append(name)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content):x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = save(random_llama()[0], tmp_path / "remote")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (folder / "README.md").write_text("a model")
    (folder / "chat_template.jinja").write_text("{{ messages[0].role }}: {{ messages[0].content }}")
    (folder / "evil.py").write_text("raise SystemExit")
    server = Hub(folder)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub, "ENDPOINT", address)
    monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()


def test_only_weights_config_and_tokenizer_are_taken(local_hub: Hub, tmp_path: Path) -> None:
    model = rs.load("some/model")
    assert model.name == "some/model"
    assert model.source == "rs.load('some/model')"
    assert model.revision == COMMIT
    assert rs.token_direction(model, 3).facts["history"]["revision"] == COMMIT
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert set(local_hub.taken) == files | {"generation_config.json"}
    ids = torch.tensor([[1, 2, 3]])
    local = rs.load(local_hub.folder)
    assert local.revision is None
    assert torch.equal(model.run(ids).logits, local.run(ids).logits)
    assert model.chat([{"role": "user", "content": "hi"}]).texts == ["user: hi"]


def test_a_repository_with_only_pickles_is_refused_with_the_command(local_hub: Hub) -> None:
    (local_hub.folder / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"some/model has its weights only in .*pytorch_model\.bin.*save_pre"):
        rs.load("some/model")
    assert "pytorch_model.bin" not in local_hub.taken


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.mark.usefixtures("no_sockets")
def test_missing_model_fails_without_asking_anybody_and_says_where_it_was_sought() -> None:
    with pytest.raises(ModelNotFound, match=r"no directory of that name in .*, none downloaded in .*offline"):
        rs.load("nobody/nothing")


@pytest.mark.usefixtures("no_sockets")
def test_local_directory_makes_no_network_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(random_llama()[0], tmp_path / "llama")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    rs.load(path).run("hello")
