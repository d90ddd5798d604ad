"""Targets that were made to do harm: each ends in a finding or a clear error, in bounded memory, and nothing is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from open360.release.local_hub import running_hub
from tests.e2e.conftest import BIN
from tests.support.foreign_release import ForeignRelease, amber, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.lying_server import Answer, lying_server
from tests.support.page_server import Pages, page_server
from tests.support.tiny_release import build_tiny_release

MAX_PEAK = 1 << 30  # a plain run needs some 170 MB; two million numbers in a manifest, each in ten errors, 950
ESCAPE = "\x1b]0;owned\x07\x1b[31mred\u202e"
REPO, DATA = "LLM360/AmberTiny", "datasets/LLM360/AmberTinyDatasets"


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    peak: int

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self.out + self.err


def validate(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """`open360 validate`, with the peak of its memory. Whatever the target is, these hold."""
    command = [str(BIN / "open360"), "validate", *(str(argument) for argument in arguments)]
    environment = {**os.environ, "OPEN360_CACHE": str(cwd / ".cache"), **(env or {})}
    out, err = cwd / ".out", cwd / ".err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=stdout, stderr=stderr)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    done = Done(
        code=process.returncode,
        out=out.read_bytes().decode("utf-8", "backslashreplace"),
        err=err.read_bytes().decode("utf-8", "backslashreplace"),
        peak=used.ru_maxrss * 1024,
    )
    assert "Traceback" not in done.err, done.err
    assert done.code in (0, 1, 2, 3), done.text
    assert done.peak < MAX_PEAK
    assert "\x1b" not in done.text
    if "sarif" not in arguments:  # JSON for programs
        assert all(line.isprintable() for line in done.text.splitlines()), repr(done.text)
    assert not list(cwd.rglob("owned*"))
    return done


@pytest.fixture(scope="module")
def tiny_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture
def tiny(tiny_original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_original, tmp_path / "tiny"))


# Folders


def _sparse(path: Path, size: int, beginning: bytes = b"") -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)


def _bomb(lines: int = 30) -> str:
    """YAML whose last alias stands for a billion of words and more."""
    text = 'a0: &a0 ["x", "x"]\n'
    return text + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, lines))


def _device(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")


def _pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


FOLDERS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "a manifest of one gigabyte": (lambda f: _sparse(f / "manifest.json", 1 << 30, b"{"), 1, "manifest.json"),
    "a spec of one gigabyte": (lambda f: _sparse(f / "release.yaml", 1 << 30, b"open360: 1\n"), 2, "release.yaml"),
    "a manifest of spaces": (lambda f: (f / "manifest.json").write_bytes(b" " * (60 << 20)), 1, "manifest.json"),
    "a manifest of empty objects": (
        lambda f: (f / "manifest.json").write_bytes(b'{"files": [' + b"{}," * 490_000 + b"{}]}"),
        1,
        "manifest.json",
    ),
    "a manifest of numbers": (
        lambda f: (f / "manifest.json").write_bytes(b'{"files": [' + b"1.5," * 1_900_000 + b"1]}"),
        1,
        "manifest.json",
    ),
    "a manifest of more numbers": (
        lambda f: (f / "manifest.json").write_bytes(b'{"files": [' + b"1," * 30_000_000 + b"1]}"),
        1,
        "manifest.json",
    ),
    "a manifest that is nested": (
        lambda f: (f / "manifest.json").write_bytes(b"[" * 10_000 + b"]" * 10_000),
        1,
        "manifest.json",
    ),
    "a spec of aliases": (lambda f: (f / "release.yaml").write_text(_bomb()), 2, "release.yaml"),
    "a spec that is nested": (lambda f: (f / "release.yaml").write_text("a: " + "{b: " * 10_000), 2, "release.yaml"),
    "a spec that would run a program": (
        lambda f: (f / "release.yaml").write_text('x: !!python/object/apply:os.system ["touch owned"]\n'),
        2,
        "release.yaml",
    ),
    "a spec that a terminal would obey": (
        lambda f: (f / "release.yaml").write_text(f"open360: 1\n{json.dumps(ESCAPE)}: 1\n"),
        2,
        "release.yaml",
    ),
    "a manifest that is a device": (lambda f: _device(f, "manifest.json"), 1, "manifest.json"),
    "a manifest that is a pipe": (lambda f: _pipe(f, "manifest.json"), 1, "manifest.json"),
    "a spec that is a device": (lambda f: _device(f, "release.yaml"), 2, "release.yaml"),
    "a spec that is a pipe": (lambda f: _pipe(f, "release.yaml"), 2, "release.yaml"),
    "segments of one gigabyte": (lambda f: _sparse(f / "segments.json", 1 << 30), 1, "segments.json"),
    "code digests that are nested": (
        lambda f: (f / "code.json").write_bytes(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        1,
        "code.json",
    ),
}


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.replace(" ", "-"))
def test_a_hostile_folder_ends_in_a_finding(case: str, tiny: Path) -> None:
    harm, code, thing = FOLDERS[case]
    harm(tiny)
    done = validate(".", "--level", "hashed", cwd=tiny)
    assert done.code == code, done.text
    assert thing in done.text


@pytest.mark.parametrize("level", ["listed", "hashed"])
def test_a_folder_of_odd_names_is_listed_and_nothing_is_put_out_raw(level: str, tiny: Path) -> None:
    folder = tiny / "runs" / "tiny" / "checkpoints" / "ckpt_001"
    for name in (ESCAPE, "a\nb", "-rf", "[/red]", "\u0441onfig.json", "%0A::error::x", "{0}", "x" * 250):
        (folder / name.replace("/", "\u2215")).write_bytes(b"x")
    (folder / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    for style in ("text", "github", "sarif", "html"):
        done = validate(".", "--level", level, "--format", style, cwd=tiny)
        assert done.code in (0, 1)


def test_a_folder_of_links_in_circles_and_out_of_it_is_walked_once(tiny: Path) -> None:
    folder = tiny / "runs" / "tiny"
    (folder / "circle").symlink_to(folder)
    (folder / "up").symlink_to("/")
    (folder / "itself").symlink_to("itself")
    assert validate(".", "--level", "listed", cwd=tiny).code in (0, 1)


# Releases on a Hub


@dataclass(frozen=True, kw_only=True)
class Place:
    """A local Hub, pages and a folder to work in."""

    folder: HubFolder
    pages: Pages
    url: str
    cwd: Path

    def validate(self, release: ForeignRelease, *arguments: str) -> Done:
        """Put a release on the Hub and look at it."""
        spec = self.cwd / "spec.yaml"
        spec.write_bytes(put_on_hub(release, self.folder, self.pages))
        return self.validate_again(REPO, "--spec", spec.name, *arguments)

    def validate_again(self, *arguments: str) -> Done:
        """Look at what is there."""
        return validate(*arguments, cwd=self.cwd, env={"HF_ENDPOINT": self.url, "HF_TOKEN": "x"})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    work = tmp_path / "work"
    work.mkdir()
    folder = HubFolder(tmp_path / "hub")
    with page_server() as pages, running_hub(folder.root) as hub:
        yield Place(folder=folder, pages=pages, url=hub.url, cwd=work)


CARD_BOMB = b"---\n" + _bomb().encode() + b"license: *a29\n---\n"
CONTENTS = {
    "a nested configuration": (f"{REPO}@ckpt_001/config.json", b"[" * 10_000 + b"]" * 10_000),
    "a configuration of another shape": (f"{REPO}@ckpt_001/config.json", b"[1, 2, 3]"),
    "a configuration that names code": (
        f"{REPO}@ckpt_001/config.json",
        b'{"auto_map": {"AutoModel": "owned--OwnedModel"}, "trust_remote_code": true, "model_type": "owned"}',
    ),
    "a configuration that a terminal would obey": (
        f"{REPO}@ckpt_001/config.json",
        json.dumps({"model_type": ESCAPE, "hidden_size": ESCAPE}).encode(),
    ),
    "an index of odd shapes": (f"{REPO}@ckpt_001/model.safetensors.index.json", b'{"weight_map": {"a": [], "b": {}}}'),
    "an index that leaves the root": (
        f"{REPO}@ckpt_001/model.safetensors.index.json",
        json.dumps({"weight_map": {"a": "../../etc/passwd", "b": "/etc/passwd", "c": ESCAPE}}).encode(),
    ),
    "a card of aliases": (f"{REPO}@main/README.md", CARD_BOMB),
    "a card without an end": (f"{REPO}@main/README.md", b"---\n" + b"a: 1\n" * 400_000),
    "a card of odd shapes": (f"{REPO}@main/README.md", b"---\nlicense: {a: [1]}\nbase_model: [[1]]\ntags: 3\n---\n"),
    "a card that is no text": (f"{REPO}@main/README.md", b"---\nlicense: \xff\xfe\n---\n\x00\x1b[31m"),
    "results of odd shapes": (f"{REPO}@main/eval_arc.json", b'{"ckpt_000": {"acc_norm": {"x": [1e999, null]}}}'),
    "nested results": (f"{REPO}@main/eval_arc.json", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "results that a terminal would obey": (
        f"{REPO}@main/eval_arc.json",
        json.dumps({ESCAPE: {"acc_norm": ESCAPE}, "ckpt_000": {"acc_norm": ESCAPE}}).encode(),
    ),
    "a pickle that would run a program": (
        f"{REPO}@ckpt_001/pytorch_model.bin",
        b"cposix\nsystem\n(S'touch owned'\ntR.",
    ),
    "a lock that a terminal would obey": (f"{REPO}@main/requirements.txt", f"numpy=={ESCAPE}\n".encode()),
    "weights that lie": (f"{REPO}@ckpt_001/model.safetensors", (1 << 62).to_bytes(8, "little") + b"{}"),
    "an odd name": (f"{REPO}@ckpt_001/{'x' * 900}", b"x"),
    "a name that looks like another": (f"{REPO}@ckpt_001/\u0441onfig.json", b"{}"),
}


def _groups() -> list[list[str]]:
    """Cases that can lie in one release, since they are at different places."""
    groups: list[list[str]] = []
    for case, (at, _) in CONTENTS.items():
        free = (group for group in groups if all(CONTENTS[other][0] != at for other in group))
        group = next(free, None)
        if group is None:
            groups.append([case])
        else:
            group.append(case)
    return groups


@pytest.mark.parametrize(
    "cases", _groups(), ids=lambda cases: f"{cases[0]} and {len(cases) - 1} more".replace(" ", "-")
)
def test_hostile_files_on_a_hub_end_in_findings(cases: list[str], place: Place) -> None:
    release = amber()
    for at, content in (CONTENTS[case] for case in cases):
        name, _, rest = at.partition("@")
        branch, _, path = rest.partition("/")
        release.repos[name][branch][path] = content
    assert place.validate(release).code == 1
    assert place.validate_again(REPO).code in (0, 1)  # judged by a guess: no spec is given


@pytest.mark.parametrize("level", ["hashed", "loaded"])
def test_hostile_weights_and_rows_are_not_believed(level: str, place: Place) -> None:
    release = amber()
    release.repos[REPO]["ckpt_001"]["model.safetensors"] = (1 << 62).to_bytes(8, "little") + b"{}"
    release.repos[REPO]["ckpt_002"]["pytorch_model.bin"] = b"cposix\nsystem\n(S'touch owned'\ntR."
    release.repos[DATA]["main"]["train/train_001.jsonl"] = b'{"token_ids": [' + b"[" * 10_000
    release.repos[DATA]["main"]["train/train_002.jsonl"] = b'{"token_ids": ["\\u001b[31m", 1e400, -1]}\n' * 10
    assert place.validate(release, "--level", level).code == 1


def test_a_page_that_floods_is_read_no_further_than_needed(place: Place) -> None:
    def flood() -> Iterator[bytes]:
        while True:
            yield b'{"a": 1}\n' * 10_000

    with lying_server(lambda *_: Answer(blocks=flood())) as url:
        release = amber()
        release.spec = release.spec.replace("{pages}", url)
        assert place.validate(release).code in (0, 1)


# A Hub that lies from the beginning


def _refs(count: int) -> Iterator[bytes]:
    yield b'{"tags": [], "branches": ['
    block = b",".join(b'{"name": "step%d", "ref": "", "targetCommit": "%040d"}' % (n, n) for n in range(1_000))
    for _ in range(count // 1_000):
        yield block + b","
    yield b'{"name": "main", "ref": "", "targetCommit": "%040d"}]}' % 0


def _tag() -> bytes:
    return json.dumps({"branches": [], "tags": [{"name": "v1.0.0", "ref": "", "targetCommit": "c" * 40}]}).encode()


def _gigabyte() -> Iterator[bytes]:
    for _ in range(1 << 10):
        yield b" " * (1 << 20)


HUBS: dict[str, tuple[Callable[[str], Answer], int]] = {
    "a million refs": (lambda _: Answer(blocks=_refs(1_000_000)), 3),
    "a manifest of one gigabyte": (
        lambda path: Answer(body=_tag()) if "/api/" in path else Answer(blocks=_gigabyte(), length=1 << 30),
        3,
    ),
    "names of refs that a terminal would obey": (
        lambda _: Answer(body=_tag().replace(b"v1.0.0", b"\\u001b[31m")),
        3,
    ),
    "a refusal that a terminal would obey": (
        lambda _: Answer(status=422, headers={"X-Error-Message": "\x1b[31mred"}, body=ESCAPE.encode()),
        3,
    ),
    "redirects in a circle": (lambda path: Answer(status=302, headers={"Location": path + "?x"}), 3),
    "a redirect to a file": (lambda _: Answer(status=302, headers={"Location": "file:///etc/passwd"}), 3),
    "half an answer": (lambda _: Answer(body=b'{"branches": [', length=10_000), 3),
    "a page to sign in": (lambda _: Answer(headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>"), 3),
    "nested refs": (lambda _: Answer(body=b"[" * 10_000 + b"]" * 10_000), 3),
    "a wait of a year": (lambda _: Answer(status=429, headers={"Retry-After": "31536000"}), 3),
    "a manifest of another shape": (
        lambda path: Answer(body=_tag() if "/api/" in path else b'{"open360": 1, "runs": "\\u001b[31m"}'),
        2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HUBS, ids=lambda case: case.replace(" ", "-"))
def test_a_hub_that_lies_ends_in_a_clear_error(case: str, tmp_path: Path) -> None:
    behave, code = HUBS[case]
    with lying_server(lambda _method, path, _range: behave(path)) as url:
        done = validate("lab/model", cwd=tmp_path, env={"HF_ENDPOINT": url, "HF_TOKEN": "x"})
    assert done.code == code, done.text
    assert "lab/model" in done.text


@pytest.mark.parametrize(
    "target",
    ["l\u0430b/model", "lab/mod\u0435l", f"lab/{ESCAPE}", "lab/../../etc", "lab/model/../x", "//", "lab/", "-/x"],
    ids=range(8),
)
def test_a_target_that_only_looks_like_a_name_is_none(target: str, tmp_path: Path) -> None:
    done = validate("--", target, cwd=tmp_path, env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.code == 2
