"""Small releases as others publish them: names and layouts of the real ones, on a local Hub and an http server.

Each is flawless; a test puts one failure into it with `change`. Specs are in `tests/golden/foreign/`; what they cannot
say before everything lies on the Hub is filled in: `{pages}`, `{sha256:PAGE}`, `{golden}`, `{commit:REPO@BRANCH}` and
`{commits:RUN}`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from open360.schema.run import Run
from open360.schema.schedule import checkpoints, tokens_at
from open360.schema.serialization import canonical_json, load_spec
from open360.schema.spec import ReleaseSpec
from tests.support.hub_folder import Content, HubFolder, Swapped, Unstored
from tests.support.page_server import Pages
from tests.support.tiny_release import Weights, initial_weights

SPECS = Path(__file__).parents[1] / "golden" / "foreign"
VOCABULARY = 32
TOKENIZER = canonical_json({"model": {"type": "BPE", "vocab": {}}})
PLACEHOLDER = "0" * 40


@dataclass(kw_only=True)
class ForeignRelease:
    """A release that is not on a Hub yet. `repos`: name -> branch -> path -> content; `pages`: path -> content."""

    spec: str
    repos: dict[str, dict[str, dict[str, Content]]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    golden: dict[int, str] = field(default_factory=dict)

    def parsed(self) -> ReleaseSpec:
        """The spec with placeholders for what is not known yet."""
        return load_spec(_fill(self, "http://127.0.0.1", {}).encode())


def _fill(release: ForeignRelease, address: str, heads: Mapping[str, Mapping[str, str]]) -> str:
    text = release.spec.replace("{pages}", address)
    text = re.sub(r"\{sha256:([^}]+)\}", lambda m: hashlib.sha256(release.pages.get(m[1], b"")).hexdigest(), text)
    golden = [{"step": step, "sha256": digest} for step, digest in release.golden.items()]
    text = text.replace('"{golden}"', json.dumps(golden))
    text = re.sub(r"\{commit:([^@}]+)@([^}]+)\}", lambda m: heads.get(m[1], {}).get(m[2], PLACEHOLDER), text)
    return re.sub(r'"\{commits:([^}]+)\}"', lambda m: json.dumps(_commits(release, m[1], heads)), text)


def _commits(release: ForeignRelease, name: str, heads: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    if not heads:
        return {}
    run = release.parsed().run(name)
    there = heads.get(run.hub.model or "", {})
    return {plan.name: there[plan.revision] for plan in _plans(release.parsed(), run) if plan.revision in there}


def _plans(spec: ReleaseSpec, run: Run) -> list[Any]:
    return checkpoints(run, spec.corpus_of(run))


def put_on_hub(release: ForeignRelease, folder: HubFolder, pages: Pages) -> bytes:
    """Write it to a Hub and an http server; returns the finished spec."""
    pages.content = {path: text.replace(b"{pages}", pages.url.encode()) for path, text in release.pages.items()}
    release.pages = dict(pages.content)
    heads = {name: folder.write(name, branches, release.tags.get(name)) for name, branches in release.repos.items()}
    text = _fill(release, pages.url, heads)
    for place in release.moved:
        folder.move(*place.split("@", 1))
    for name, new in release.renamed.items():
        folder.rename(name, new)
    return text.encode()


# The flawless releases


def weights_of(seed: int, step: int) -> Weights:
    """Weights that move a little with every step."""
    weights = initial_weights()
    for number in range(step):
        rng = np.random.default_rng([seed, number])
        weights = {name: w + np.float32(1e-3) * rng.standard_normal(w.shape, np.float32) for name, w in weights.items()}
    return weights


def checkpoint_files(run: Run, step: int, seed: int = 1) -> dict[str, Content]:
    """The files of a checkpoint's revision."""
    config = {**run.architecture, "architectures": ["LlamaForCausalLM"], "torch_dtype": "float32"}
    return {
        "config.json": canonical_json(config),
        "generation_config.json": canonical_json({"eos_token_id": 0}),
        "tokenizer.json": TOKENIZER,
        "tokenizer_config.json": canonical_json({"tokenizer_class": "PreTrainedTokenizerFast"}),
        "model.safetensors": save(weights_of(seed, step), metadata={"format": "pt"}),
    }


def card(license_id: str, title: str, text: str = "") -> bytes:
    """A card: front matter with the licence, and a text."""
    return f"---\nlicense: {license_id}\n---\n# {title}\n\n{text}\n".encode()


def rows_of(seed: int, rows: int, row_len: int, separator: int) -> npt.NDArray[np.uint32]:
    """Rows of random ids, (rows, row_len), each with the separator somewhere."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, VOCABULARY, size=(rows, row_len), dtype=np.uint32)
    ids[np.arange(rows), rng.integers(0, row_len, size=rows)] = separator
    return ids


def digest_of(ids: npt.NDArray[Any]) -> str:
    """The digest of a batch: over its ids as uint32, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<u4").tobytes()).hexdigest()


def _common_pages(*names: str) -> dict[str, bytes]:
    return {f"/{name}": b"a repository" for name in ("paper", "lm-evaluation-harness", *names)}


def _lm_eval_record(repo: str, revision: str, task: str, metric: str, value: float, version: Any) -> bytes:
    return canonical_json(
        {
            "results": {task: {metric: value, f"{metric}_stderr": 0.01}},
            "versions": {task: version},
            "config": {"model": "hf-causal", "model_args": f"pretrained={repo},revision={revision}", "num_fewshot": 0},
        }
    )


def pythia(steps: str = "[1, 2, 4, 8, 16]") -> ForeignRelease:
    """Branches step0 … step16, 3 shards of 200, 200 and 176 bytes for 32 rows of 18 bytes."""
    release = ForeignRelease(spec=(SPECS / "pythia.yaml").read_text().replace("[1, 2, 4, 8, 16]", steps))
    spec = release.parsed()
    run = spec.run("pythia-nano")
    repo, data = "EleutherAI/pythia-nano", "datasets/EleutherAI/pile-nano-preshuffled"
    branches: dict[str, dict[str, Content]] = {}
    for plan in _plans(spec, run):
        branches[plan.name] = checkpoint_files(run, 0 if plan.step == 1 else plan.step)
    main = dict(branches["step16"])
    main["README.md"] = card("apache-2.0", "Pythia nano")
    for plan in _plans(spec, run):
        path = f"evals/pythia-v1/pythia-nano/zero-shot/nano_step{plan.step}.json"
        main[path] = _lm_eval_record(repo, plan.name, "piqa", "acc", 0.5 + 0.01 * plan.step, 0)
    ids = rows_of(1, 32, 9, 0)
    stream = ids.astype("<u2").tobytes()
    shards = {f"document-{i:05d}-of-00002.bin": stream[200 * i : 200 * (i + 1)] for i in range(3)}
    release.repos = {
        repo: {"main": main, **branches},
        data: {"main": {"README.md": card("mit", "Preshuffled rows"), **shards}},
    }
    release.pages = _common_pages("gpt-neox", "sources/pile.tar", "logs/pythia-nano.jsonl")
    settings = {"train-batch-size": 2, "train-iters": 16, "seq-length": 8, "optimizer": {"params": {"lr": 0.001}}}
    release.pages["/configs/nano.yml"] = canonical_json(settings)  # NeoX writes JSON into its YAML files
    release.golden = {step: digest_of(ids[2 * step : 2 * step + 2]) for step in (0, 7, 15)}
    return release


def olmo() -> ForeignRelease:
    """Two stages; two raw shards of 12 rows and a tail; a stored permutation; a list of checkpoints; two epochs."""
    release = ForeignRelease(spec=(SPECS / "olmo.yaml").read_text())
    spec = release.parsed()
    repo, data = "allenai/OLMo-nano", "datasets/allenai/olmo-mix-nano"
    branches: dict[str, dict[str, Content]] = {}
    lines = ["Stage,Step,Tokens Seen,Checkpoint Directory"]
    pages = _common_pages("OLMo", "sources/dclm.tar", "logs/olmo-nano.jsonl")
    evaluations: dict[str, Content] = {}
    before = 0
    for number, run in enumerate(spec.all_runs()):
        for plan in _plans(spec, run):
            stage = f"stage{number + 1}"
            files = checkpoint_files(run, before + plan.step)
            if number == 0:
                seen = 4 * plan.step
                state = {
                    "global_step": plan.step,
                    "epoch": seen // 24,
                    "global_train_examples_seen_this_epoch": seen % 24,
                    "seed": run.seed,
                }
                files["train_state.json"] = canonical_json(state)
                pages[f"/peteish/step{plan.step}-unsharded/config.yaml"] = b"run_name: peteish\n"
            branches[plan.name] = files
            link = f"/ckpt/{stage}/step{plan.step}-unsharded/"
            lines.append(f"{stage},{plan.step},{tokens_at(run, spec.corpus_of(run), plan.step)},{{pages}}{link}")
            pages[link] = b"a folder"
            value = 0.3 + 0.01 * (before + plan.step)
            evaluations[f"evals/{plan.name}.json"] = _lm_eval_record(repo, plan.name, "arc_easy", "acc", value, 1.0)
        before += run.steps or 0
    main = dict(branches["stage2-ingredient1-step6-tokens4B"])
    main["README.md"] = card("apache-2.0", "OLMo nano")
    ids = rows_of(2, 24, 8, 0)
    tail = np.full(4, 5, dtype="<u4").tobytes()
    shards = {
        f"preprocessed/part-{i:03d}-00000.npy": ids[12 * i : 12 * (i + 1)].astype("<u4").tobytes() + tail
        for i in range(2)
    }
    release.repos = {
        repo: {"main": {**main, **evaluations}, **branches},
        data: {"main": {"README.md": card("odc-by", "OLMo mix nano"), **shards}},
    }
    order = np.arange(24, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(6198)).shuffle(order)
    config = (
        "run_name: OLMo-nano\nseed: 6198\nglobal_train_batch_size: 4\nmax_duration: 12\n"
        "model:\n  max_sequence_length: 8\n"
    )
    pages |= {
        "/train_data/global_indices.npy": order.astype("<u4").tobytes(),
        "/lists/stage1.csv": ("\n".join(lines) + "\n").encode(),
        "/configs/OLMo-nano.yaml": config.encode(),
        "/configs/OLMo-nano-stage2.yaml": b"seed: 42\nglobal_train_batch_size: 4\n",
    }
    second = np.arange(24, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(42)).shuffle(second)
    release.golden = {step: digest_of(ids[second[4 * step : 4 * step + 4]]) for step in (0, 5)}
    release.pages = pages
    return release


def _json_lines(chunks: Mapping[int, npt.NDArray[np.uint32]], key: str, sources: tuple[str, str]) -> dict[int, bytes]:
    """Chunks of ten rows: the first four of one source, the others of another."""
    found = {}
    for number, ids in chunks.items():
        rows = [{"token_ids": row.tolist(), key: sources[at >= 4]} for at, row in enumerate(ids)]
        found[number] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return found


def amber() -> ForeignRelease:
    """Branches ckpt_000 … ckpt_003, main the last; a chunk of ten JSON lines each, of which eight are used."""
    release = ForeignRelease(spec=(SPECS / "amber.yaml").read_text())
    spec = release.parsed()
    run = spec.run("amber-tiny")
    branches: dict[str, dict[str, Content]] = {}
    for plan in _plans(spec, run):
        files = checkpoint_files(run, plan.step)
        moments = {f"exp_avg.{name}": value for name, value in weights_of(9, plan.step).items()}
        files["optimizer.safetensors"] = save(moments, metadata={"format": "pt"})
        branches[plan.name] = files
    main = {**branches["ckpt_003"], "README.md": card("apache-2.0", "Amber tiny")}
    scores = {plan.name: {"acc_norm": 0.25 + 0.01 * plan.step} for plan in _plans(spec, run)}
    main["eval_arc.json"] = canonical_json(scores)
    main["train_config.json"] = canonical_json({"global_batch_size": 4, "seed": 11111})
    chunks = _json_lines({k: rows_of(10 + k, 10, 9, 2) for k in range(4)}, "source", ("arxiv", "c4"))
    files = {f"train/train_{k:03d}.jsonl": data for k, data in chunks.items()}
    release.repos = {
        "LLM360/AmberTiny": {"main": main, **branches},
        "datasets/LLM360/AmberTinyDatasets": {"main": {"README.md": card("odc-by", "Amber data"), **files}},
    }
    names = ("amber-train", "amber-data-prep", "sources/arxiv.tar", "sources/c4.tar", "logs/amber.jsonl")
    release.pages = _common_pages(*names)
    return release


def k2() -> ForeignRelease:
    """Branches ckpt_001 … ckpt_004; chunks in the order 0, 1, 3, 2."""
    release = ForeignRelease(spec=(SPECS / "k2.yaml").read_text())
    spec = release.parsed()
    run = spec.run("k2-tiny")
    branches = {plan.name: checkpoint_files(run, plan.step) for plan in _plans(spec, run)}
    main = {**branches["ckpt_004"], "README.md": card("apache-2.0", "K2 tiny")}
    main["train.json"] = canonical_json({"seed": 11111, "train": {"max-iters": 8}})
    for plan in _plans(spec, run):
        value = 0.25 + 0.01 * plan.step
        main[f"evals/{plan.name}.json"] = _lm_eval_record(
            "LLM360/K2Tiny", plan.name, "arc_challenge", "acc_norm", value, 1.0
        )
    chunks = _json_lines({k: rows_of(20 + k, 10, 8, 2) for k in range(4)}, "subset", ("dm-math", "refinedweb"))
    files = {f"chunk_{k:03d}.jsonl": data for k, data in chunks.items()}
    release.repos = {
        "LLM360/K2Tiny": {"main": main, **branches},
        "datasets/LLM360/K2TinyDatasets": {"main": {"README.md": card("odc-by", "K2 data"), **files}},
    }
    names = ("k2-train", "k2-data-prep", "sources/math.tar", "sources/refinedweb.tar", "logs/k2.jsonl")
    release.pages = _common_pages(*names)
    return release


def pythia_dense() -> ForeignRelease:
    """Pythia with a checkpoint at every step: curves of 17 scores."""
    return pythia("[{first: 1, last: 16, every: 1}]")


RELEASES: dict[str, Callable[[], ForeignRelease]] = {
    "pythia": pythia,
    "pythia-dense": pythia_dense,
    "olmo": olmo,
    "amber": amber,
    "k2": k2,
}


# Changes, described as data


def change(release: ForeignRelease, changes: list[dict[str, Any]]) -> None:
    """Make changes, one after the other; each is a mapping with one key (see `CHANGES`)."""
    for one in changes:
        ((kind, what),) = one.items()
        CHANGES[kind](release, what)


def _place(release: ForeignRelease, at: str) -> tuple[dict[str, dict[str, Content]], str, str]:
    """Branches of the repository, the branch and the path (or "") that `REPO@BRANCH[/path]` names."""
    name, _, rest = at.partition("@")
    branches = release.repos.setdefault(name, {})
    for branch in sorted(branches, key=len, reverse=True):
        if rest == branch or rest.startswith(f"{branch}/"):
            return branches, branch, rest[len(branch) + 1 :]
    branch, _, path = rest.partition("/")
    return branches, branch, path


def _spec(release: ForeignRelease, what: dict[str, str]) -> None:
    assert release.spec.count(what["old"]) == 1, f"{what['old']!r} occurs {release.spec.count(what['old'])} times"
    release.spec = release.spec.replace(what["old"], what["new"])


def _content(what: dict[str, Any]) -> Content:
    if "zeros" in what:
        return bytes(what["zeros"])
    if "hex" in what:
        return bytes.fromhex(what["hex"])
    if "blob" in what:
        return Unstored(**what["blob"])
    return str(what["text"]).encode()


def _put(release: ForeignRelease, what: dict[str, Any]) -> None:
    branches, branch, path = _place(release, what["at"])
    branches.setdefault(branch, {})[path] = _content(what)


def _remove(release: ForeignRelease, at: str) -> None:
    branches, branch, path = _place(release, at)
    if path:
        del branches[branch][path]
    else:
        del branches[branch]


def _copy(release: ForeignRelease, what: dict[str, str]) -> None:
    branches, branch, path = _place(release, what["from"])
    others, to, target = _place(release, what["to"])
    if path:
        others.setdefault(to, {})[target] = branches[branch][path]
    else:
        others[to] = dict(branches[branch])


def _edit(release: ForeignRelease, what: dict[str, str]) -> None:
    branches, branch, path = _place(release, what["at"])
    data = branches[branch][path]
    assert isinstance(data, bytes)
    assert data.count(what["old"].encode()) == 1, f"{what['old']!r} in {what['at']}"
    branches[branch][path] = data.replace(what["old"].encode(), what["new"].encode())


def _empty(release: ForeignRelease, at: str) -> None:
    branches, branch, _ = _place(release, at)
    branches[branch] = {}


def _page(release: ForeignRelease, what: dict[str, Any]) -> None:
    data = _content(what)
    assert isinstance(data, bytes)
    release.pages[what["at"]] = data


def _unpage(release: ForeignRelease, at: str) -> None:
    gone = [path for path in release.pages if path == at or (at.endswith("*") and path.startswith(at[:-1]))]
    assert gone, at
    for path in gone:
        del release.pages[path]


def _overwrite(release: ForeignRelease, what: dict[str, Any]) -> None:
    new = _content(what)
    assert isinstance(new, bytes)
    if what["at"].startswith("/"):
        old: Content = release.pages[what["at"]]
    else:
        branches, branch, path = _place(release, what["at"])
        old = branches[branch][path]
    assert isinstance(old, bytes)
    changed = old[: what["from"]] + new + old[what["from"] + len(new) :]
    assert len(changed) == len(old) and changed != old, what["at"]
    if what["at"].startswith("/"):
        release.pages[what["at"]] = changed
    else:
        branches[branch][path] = changed


def _edit_page(release: ForeignRelease, what: dict[str, str]) -> None:
    data = release.pages[what["at"]]
    assert data.count(what["old"].encode()) == 1, f"{what['old']!r} in {what['at']}"
    release.pages[what["at"]] = data.replace(what["old"].encode(), what["new"].encode())


def _move(release: ForeignRelease, place: str) -> None:
    release.moved.append(place)


def _rename(release: ForeignRelease, what: dict[str, str]) -> None:
    release.renamed[what["from"]] = what["to"]


def _tag(release: ForeignRelease, what: dict[str, str]) -> None:
    name, _, branch = what["at"].partition("@")
    release.tags.setdefault(name, {})[what["tag"]] = branch


def _swapped(release: ForeignRelease, what: dict[str, str]) -> None:
    branches, branch, path = _place(release, what["at"])
    data = branches[branch][path]
    assert isinstance(data, bytes)
    branches[branch][path] = Swapped(listed=data, served=data[:-1] + bytes([data[-1] ^ 1]))


def _nan(release: ForeignRelease, at: str) -> None:
    branches, branch, path = _place(release, at)
    data = branches[branch][path]
    assert isinstance(data, bytes)
    weights = load(data)
    weights["model.norm.weight"][0] = np.nan
    branches[branch][path] = save(weights, metadata={"format": "pt"})


CHANGES: dict[str, Callable[[ForeignRelease, Any], None]] = {
    "spec": _spec,  # {old, new}: change the text of the spec
    "put": _put,  # {at: REPO@BRANCH/path, text | hex | zeros | blob: {bytes, sha256}}: write a file
    "remove": _remove,  # REPO@BRANCH[/path]: remove a file or a branch
    "empty": _empty,  # REPO@BRANCH: remove all files of a branch
    "copy": _copy,  # {from, to}: copy a file or all of a branch
    "edit": _edit,  # {at, old, new}: change a text file
    "page": _page,  # {at, text | hex | zeros}: write a page of the http server
    "unpage": _unpage,  # path, or the beginning of paths and `*`: remove pages
    "edit_page": _edit_page,  # {at, old, new}
    "overwrite": _overwrite,  # {at: REPO@BRANCH/path or a page, from: N, text | hex | zeros}: bytes from place N on
    "move": _move,  # REPO@BRANCH: a further commit, after the spec was finished
    "swapped": _swapped,  # {at}: the Hub lists the file as it is, and serves one with another last bit
    "nan": _nan,  # REPO@BRANCH/path: let a weight of a safetensors file be NaN
    "rename": _rename,  # {from: REPO, to: REPO}: the Hub sends who asks for the old name to the new one
    "tag": _tag,  # {at: REPO@BRANCH, tag}
}
