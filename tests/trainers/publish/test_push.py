"""push=you/name: what is wrong is said before training, what fails afterwards costs nothing. The hub is a server of our own."""

from __future__ import annotations

import base64
import json
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import huggingface_hub
import pytest
from omegaconf import OmegaConf

from configs.compose import ConfigError
from trainers.publish import push as module
from trainers.publish.push import PUSH, check_push, push
from trainers.run.folder import RunFolder


class Hub(ThreadingHTTPServer):
    """As much of the hub as an upload asks for. Everything goes by way of the commit; nothing is large."""

    def __init__(self, answer: int = 200):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.created, self.files = answer, [], {}
        self.who = {
            "type": "user",
            "name": "you",
            "orgs": [{"name": "lab"}],
            "auth": {"accessToken": {"role": "write"}},
        }
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._reply(self.server.who if "whoami" in self.path else {"sha": "0" * 40, "siblings": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._reply({"url": f"{self.server.url}/you/mine", "name": "you/mine"})
        elif "/preupload/" in self.path:
            files = [{**one, "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            self._reply({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._reply({"commitUrl": f"{self.server.url}/you/mine/commit/1", "commitOid": "1" * 40})
        else:
            self._reply({"errors": [], "warnings": []})

    def _reply(self, value):
        failed = self.server.answer >= 400
        text = json.dumps({"error": "the hub is closed today"} if failed else value).encode()
        self.send_response(self.server.answer)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(module, "get_token", lambda: "hf_secret")
    monkeypatch.setattr(module, "HfApi", partial(huggingface_hub.HfApi, endpoint=server.url, token="hf_secret"))
    yield server
    server.shutdown()


def settings(name="you/mine", private=True, **trainer):
    return OmegaConf.create({"push": name, "push_private": private, "trainer": {"push_to_hub": False, **trainer}})


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.model.mkdir(parents=True)
    (folder.model / "README.md").write_text("---\ntags: [apportion]\n---\n# mine\n")
    (folder.model / "model.safetensors").write_bytes(b"weights")
    (folder.model / "training_args.bin").write_bytes(b"a pickle")
    folder.summary.write_text(json.dumps({"final_reward": 0.5}))
    return folder


def summary(run) -> dict:
    return json.loads(run.summary.read_text())


@pytest.mark.parametrize("private", [True, False])
def test_the_model_arrives_whole_and_as_private_as_it_was_asked_for(hub, run, private, capsys):
    check_push(settings(private=private))
    push(settings(private=private), run)
    (made,) = hub.created
    assert made.get("private", made.get("visibility") == "private") is private
    assert hub.files["model.safetensors"] == b"weights" and b"# mine" in hub.files["README.md"]
    assert set(hub.files) == {"model.safetensors", "README.md"}, "no pickle of this machine"
    assert summary(run) == {"final_reward": 0.5, "pushed": f"{hub.url}/you/mine"}
    assert f"pushed   {hub.url}/you/mine" in capsys.readouterr().out


def test_a_push_that_fails_costs_nothing_and_says_how_to_do_it_again(hub, run, capsys):
    hub.answer = 403
    push(settings(), run)
    said = capsys.readouterr().err
    assert f"hf upload you/mine {run.model}" in said and "403" in said
    assert summary(run)["final_reward"] == 0.5 and "403" in summary(run)["failed_after_training"][PUSH]
    assert "hub is closed" in (run.path / "error.log").read_text() and (run.model / "model.safetensors").is_file()
    assert "hf_secret" not in said + run.summary.read_text() + (run.path / "error.log").read_text()


def test_a_run_that_is_not_whole_is_not_pushed_and_none_is_by_default(hub, run):
    push(settings(name=None), run)
    check_push(settings(name=None))
    run.summary.unlink()
    push(settings(), run)
    assert not hub.created


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("you/mine/deeper", "push=you/name"),
        ("-bad-/name", "push=you/name"),
        ("theirs/name", "who writes to you, lab"),
    ],
)
def test_a_wrong_name_is_told_before_training(hub, name, said):
    with pytest.raises(ConfigError, match=said):
        check_push(settings(name))


def test_names_of_ones_own_and_of_ones_organisation_are_right(hub):
    for name in ("you/mine", "lab/mine", "mine"):
        check_push(settings(name))


def test_what_the_hub_would_not_take_is_told_before_training(hub, monkeypatch):
    with pytest.raises(ConfigError, match="leave out the second"):
        check_push(settings(push_to_hub=True))
    hub.who["auth"]["accessToken"]["role"] = "read"
    with pytest.raises(ConfigError, match="may read only"):
        check_push(settings())
    hub.answer = 401
    with pytest.raises(ConfigError, match="does not take the token"):
        check_push(settings())
    hub.server_close()
    hub.shutdown()
    with pytest.raises(ConfigError, match="cannot be asked"):
        check_push(settings())
    monkeypatch.setattr(module, "get_token", lambda: None)
    with pytest.raises(ConfigError, match="no token of the hub"):
        check_push(settings())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        check_push(settings())
