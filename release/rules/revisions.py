"""Rules about what lies on the Hub: repositories, their revisions, where these point, what does not belong there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from open360.release.findings import EvidenceLevel, Finding, Location, Part, Severity
from open360.release.foreign_target import MAIN
from open360.release.hub_objects import RemoteFile, Repo, git_id_of
from open360.release.hub_target import HubTarget, newest_version
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.rules.storage import all_weight_files
from open360.release.survey import ListedRevision, revision_root
from open360.release.targets import FolderTarget
from open360.release.view import RANGE_BYTES, ReleaseView
from open360.schema.run import Run

STRAY = re.compile(
    r"(^|/)(\.cache|\.git|\.ipynb_checkpoints|__pycache__|wandb|\.DS_Store|Thumbs\.db|\.huggingface|\.locks)(/|$)"
    r"|\.(incomplete|lock|swp|tmp|pyc|partial)$"
)
MAX_GIT_BYTES = 64 << 20


class RevisionMoved(Rule):
    """A revision no longer points at the commit that the release names.

    ## What it does
    Compares the commits of the spec's series (`commits`) and pinned data repositories, or of the published manifest,
    with what the branches point at now. For a release of open360's only the newest version is compared: a later one
    may add commits.

    ## Why is this bad?
    Whoever loads the checkpoint by its name gets other bytes than those that results were obtained with, and nothing
    tells them.

    ## Example
    `ckpt_003` at commit `1f0c…`, where the release says `9a1b…`.

    ## Remedy
    Load checkpoints by commit. When the change was meant, publish a new version that says so.

    ## Seen in practice
    The branches of Amber were rewritten half a year after the release; Marin says that its main branch may change.
    """

    code = "HUB001"
    name = "revision-moved"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Pinned revisions that were compared."""
        return len(list(_pins(release)))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each revision."""
        for repo, revision, name, pinned in _pins(release):
            refs = release.survey.refs(repo)
            now = refs.commit_of(revision) if refs is not None else None
            if now is not None and now != pinned:
                message = f"'{revision}' points at commit {now}, the release says {pinned}"
                fix = "load it by its commit; if the change was meant, publish a new version that says so"
                yield self.finding(revision_root(repo, revision), name, message, fix)
        for repo, pinned in release.foreign.data_repos if release.foreign is not None else ():
            there = release.survey.refs(repo) is not None
            if there and pinned != MAIN and release.survey.revision(repo, pinned) is None:
                message = f"the release pins commit {pinned}, which is not there any more"
                yield self.finding(str(repo), repo.id, message, "ask its owner for the commit; pin one that is there")


def _pins(release: ReleaseView) -> Iterator[tuple[Repo, str, str, str]]:
    """`(repository, revision, name of the checkpoint, pinned commit)`."""
    if release.foreign is not None:
        for repo, runs in release.foreign.model_repos.items():
            for run in runs:
                commits = run.series.commits if run.series is not None else {}
                plans = {plan.name: plan.revision for plan in release.plans(run)}
                for name, commit in commits.items():
                    yield repo, plans.get(name, name), name, commit
        return
    target = release.target
    if isinstance(target, HubTarget):
        refs = release.survey.refs(target.repo)
        if refs is None or newest_version(list(refs.tags)) != target.tag:
            return
        for _, checkpoint in release.built_checkpoints():
            there = checkpoint.published
            if there is not None:
                yield Repo(id=there.repo, type=there.repo_type), there.revision, checkpoint.name, there.commit


class RevisionUnpinned(Rule):
    """Checkpoints are named by branches alone, which can move.

    ## What it does
    Looks for a commit of each checkpoint in the series (`commits`). A manifest of open360's has them all.

    ## Why is this bad?
    A branch can be pushed to at any time. Results that name a branch cannot be checked later, and a reader cannot know
    whether they load what was published.

    ## Example
    154 branches `step0` … `step143000`, and a paper that loads them by name.

    ## Remedy
    List the commits: `open360 validate ORG/NAME --save-draft` writes those of today.

    ## Seen in practice
    No release before open360 named commits; Pythia's `main` is its last checkpoint by habit only, and that of Marin
    `may change in the future`.
    """

    code = "HUB002"
    name = "revision-unpinned"
    severity = Severity.WARNING
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs on a Hub; none of a folder, which has no revisions."""
        return 0 if isinstance(release.target, FolderTarget) else release.count_of(self.part)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run."""
        by_run = release.checkpoints_by_run() if release.foreign is not None else []
        for checkpoints in by_run:
            run = checkpoints[0].run
            commits = run.series.commits if run.series is not None else {}
            unpinned = [checkpoint.name for checkpoint in checkpoints if checkpoint.name not in commits]
            if unpinned:
                place = release.place(f"{release.run_pointer(run.name)}/series")
                message = f"{len(unpinned)} of {len(checkpoints)} checkpoints have no commit, from '{unpinned[0]}' on"
                yield self.finding(place, run.name, message, "list their commits in 'commits' of the series")


class CardMissing(Rule):
    """A repository has no card.

    ## What it does
    Looks for `README.md` on the main branch of every model and data repository.

    ## Why is this bad?
    A reader finds files without a word on what they are, where they come from and what one may do with them.

    ## Example
    A data repository of 360 files and nothing else.

    ## Remedy
    Write a card with licence, sources and how to load the files; `open360 publish` writes one.

    ## Seen in practice
    The data sets of K2 were published without a card.
    """

    code = "HUB004"
    name = "card-missing"
    severity = Severity.WARNING
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.REPOSITORY

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each repository."""
        for repo in release.repositories:
            main = release.survey.revision(repo, MAIN)
            if main is not None and "README.md" not in main.files:
                yield self.finding(str(repo), repo.id, "it has no card (README.md) on 'main'", "write one")


class StrayFiles(Rule):
    """A repository holds files that somebody's tools left behind.

    ## What it does
    Looks in every revision for caches, lock files, unfinished downloads, compiled code and notebooks' checkpoints.

    ## Why is this bad?
    They are not part of the release, may be large, may hold private paths, and show that nobody looked at the listing
    after the upload.

    ## Example
    `.cache/huggingface/upload/model.safetensors.metadata`

    ## Remedy
    Remove them with a commit.

    ## Seen in practice
    The repository of K2-65B contains a cache folder of the upload.
    """

    code = "HUB005"
    name = "stray-files"
    severity = Severity.WARNING
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.REPOSITORY

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each repository."""
        for repo in release.repositories:
            found: dict[str, None] = {}
            for listed in _revisions_of(release, repo):
                found.update(dict.fromkeys(path for path in listed.files if STRAY.search(path)))
            if found:
                shown = ", ".join(list(found)[:3])
                message = f"{len(found)} files do not belong there: {shown[:300]}"
                yield self.finding(str(repo), repo.id, message, "remove them with a commit")


def _revisions_of(release: ReleaseView, repo: Repo) -> list[ListedRevision]:
    """The revisions of a repository that the release speaks of."""
    if release.foreign is not None:
        return [listed for (there, _), listed in release.foreign.revisions.items() if there == repo]
    main = release.survey.revision(repo, MAIN)
    return [main] if main is not None else []


class AliasDiffers(Rule):
    """A revision that is declared to be another name of a checkpoint holds other weights.

    ## What it does
    Compares the digests of the weights behind each alias of the series (`aliases: {main: step143000}`) with those of
    the checkpoint that it stands for: the safetensors files where both have them, else the pickles. The checkpoint is
    one that the series declares.

    ## Why is this bad?
    What one gets without naming a revision is not the model that the release is about.

    ## Example
    `main` is said to be the last checkpoint, and was uploaded again in another precision.

    ## Remedy
    Publish the right weights under the alias, or correct the declaration.

    ## Seen in practice
    Amber's main branch was uploaded again in bfloat16 two months after the release.
    """

    code = "HUB006"
    name = "alias-differs"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Aliases that are declared."""
        return len(list(_aliases(release)))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each alias."""
        for run, repo, alias, name, revision in _aliases(release):
            if _is_undeclared(release, run, name):
                place = release.place(f"{release.run_pointer(run.name)}/series/aliases")
                message = f"the alias '{alias}' stands for checkpoint '{name}', which the series does not declare"
                yield self.finding(place, alias, message, "correct 'aliases' of the series, or declare the checkpoint")
                continue
            one, other = release.survey.revision(repo, alias), release.survey.revision(repo, revision)
            if other is None:
                continue  # a missing checkpoint is told by a rule of its own, and so are missing weights
            if one is None:
                place = release.place(f"{release.run_pointer(run.name)}/series/aliases")
                message = f"the alias '{alias}' of checkpoint '{name}' is not there"
                yield self.finding(place, alias, message, "publish it, or correct 'aliases' of the series")
            elif (difference := _difference(one, other, name)) is not None:
                fix = "publish the right weights under it, or correct 'aliases' of the series"
                yield self.finding(one.root, alias, difference, fix)


def _aliases(release: ReleaseView) -> Iterator[tuple[Run, Repo, str, str, str]]:
    """`(run, repository, alias, checkpoint, the checkpoint's revision)`."""
    for repo, runs in release.foreign.model_repos.items() if release.foreign is not None else ():
        for run in runs:
            plans = {plan.name: plan.revision for plan in release.plans(run)}
            for alias, name in run.series.aliases.items() if run.series is not None else ():
                yield run, repo, alias, name, plans.get(name, name)


def _is_undeclared(release: ReleaseView, run: Run, name: str) -> bool:
    """Whether the series is known to have no checkpoint of that name; not where it cannot be worked out."""
    plans = release.plans(run)
    if run.series is None or name in run.series.unplaced or name in run.series.revisions:
        return False
    return bool(plans or run.series.unplaced) and all(plan.name != name for plan in plans)


def _difference(one: ListedRevision, other: ListedRevision, name: str) -> str | None:
    """What tells the weights of an alias from those of its checkpoint; None too where one has no weights."""
    (here, here_pickled), (there, there_pickled) = _weights(one), _weights(other)
    if here and there:
        differ = here != there
    elif here_pickled and there_pickled:
        differ = here_pickled != there_pickled
    elif (here or here_pickled) and (there or there_pickled):
        kinds = ("safetensors", "pickles") if here else ("pickles", "safetensors")
        return f"its weights are {kinds[0]}, those of checkpoint '{name}' {kinds[1]}: nothing shows that they are equal"
    else:
        return None
    return f"its weights are not those of checkpoint '{name}', whose name it is said to be" if differ else None


def _weights(listed: ListedRevision) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Digests of the weights by file: in safetensors files, and in pickles."""
    tensors: dict[str, str | None] = {}
    pickles: dict[str, str | None] = {}
    for name in (name for name in all_weight_files(listed.files) if listed.files[name].bytes):
        (tensors if name.endswith(".safetensors") else pickles)[name] = _digest(listed.files[name])
    return tensors, pickles


def _digest(file: RemoteFile) -> str | None:
    return file.sha256 or file.git_id


class RepositoryMissing(Rule):
    """A repository that the release names is not there.

    ## What it does
    Asks the Hub for the refs of every repository of the spec or the manifest: models, data, optimizer states, order
    files.

    ## Why is this bad?
    What the release promises cannot be had: it was never published, was made private, or moved.

    ## Example
    `hub: {optimizer: my-org/my-lm-optimizer}`, and no such repository.

    ## Remedy
    Publish it, or correct the name; list former names in `former`.

    ## Seen in practice
    LLM360's organisation was renamed, so that links from papers lead to another name or nowhere.
    """

    code = "HUB007"
    name = "repository-missing"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.REPOSITORY

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each repository."""
        named = list(release.repositories)
        if release.foreign is not None:
            ids = [run.hub.optimizer for run in release.spec.all_runs()]
            named += [Repo(id=name, type="model") for name in dict.fromkeys(ids) if name is not None]
        for repo in dict.fromkeys(named):
            if release.survey.refs(repo) is None:
                message = "the Hub has no such repository, or does not show it to everybody"
                place = Location(path=release.spec_path)
                yield self.finding(place, repo.id, f"{repo}: {message}", "publish it, or correct its name")


class RepositoryRenamed(Rule):
    """A repository has another name than the release says.

    ## What it does
    Notes where the Hub sends who asks for a repository. Names that the spec lists as `aliases` of the run or of the
    data are known, and no finding.

    ## Why is this bad?
    The redirect lasts until somebody takes the old name. From then on scripts and papers load what a stranger put
    there.

    ## Example
    `hub: {model: LLM360/Amber}`, and the Hub answers as `IFM/Amber`.

    ## Remedy
    Name the repository as it is called now, and list the old name in `former`.

    ## Seen in practice
    The organisation of LLM360 was renamed on the Hub after its releases; papers and code name the old one.
    """

    code = "HUB008"
    name = "repository-renamed"
    severity = Severity.WARNING
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.REPOSITORY

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each repository."""
        spec = release.spec
        known = {name.casefold() for run in spec.all_runs() for name in run.hub.aliases}
        known |= {name.casefold() for corpus in spec.corpora if corpus.repository for name in corpus.repository.aliases}
        for repo in release.repositories:
            refs = release.survey.refs(repo)
            if refs is not None and refs.renamed is not None and refs.renamed.casefold() not in known:
                message = f"the Hub answers as '{refs.renamed}': the repository was renamed"
                fix = "name it as it is called now, and list the old name in 'former'"
                yield self.finding(str(repo), repo.id, message, fix)


class ServedBytesDiffer(Rule):
    """The Hub serves other bytes than it lists.

    ## What it does
    At level `hashed`, downloads the files of a foreign release (a share of them with `--sample`) and compares size and
    digest with the listing. Releases of open360's are compared with their manifest, by other rules.

    ## Why is this bad?
    Everything that was concluded from the listing is then about other bytes than a reader gets.

    ## Example
    A mirror that answers with a cached older version of a file.

    ## Remedy
    Tell the Hub's operator; download by commit from another place.

    ## Seen in practice
    A range of an OLMo shard came back with 7,170 of 16,384 bytes: the file behind the address was not the listed one.
    """

    code = "INT007"
    name = "served-bytes-differ"
    level = EvidenceLevel.HASHED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Files in the sample."""
        return len(_sampled_files(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        files = _sampled_files(release)
        total, done = sum(file.bytes for _, file in files), 0
        for path, file in files:
            sha256, parts = hashlib.sha256(), []
            for begin in range(0, file.bytes, RANGE_BYTES):
                block = release.target.read_range(path, begin, min(begin + RANGE_BYTES, file.bytes))
                sha256.update(block)
                if file.sha256 is None and file.bytes <= MAX_GIT_BYTES:
                    parts.append(block)
            done += file.bytes
            release.count_hashed(file.bytes)
            if release.progress is not None:
                release.progress(done, total, path)
            found = sha256.hexdigest() if file.sha256 is not None else git_id_of(b"".join(parts))
            expected = file.sha256 or file.git_id
            if expected is not None and found != expected and (file.sha256 or file.bytes <= MAX_GIT_BYTES):
                message = f"the listing says {expected}, the bytes that came have {found}"
                yield self.finding(path, path, message, "tell the Hub's operator; do not use this file")


def _sampled_files(release: ReleaseView) -> list[tuple[str, RemoteFile]]:
    if release.foreign is None:
        return []
    files = {
        file.sha256 or f"{listed.root}/{path}": (f"{listed.root}/{path}", file)
        for listed in release.foreign.revisions.values()
        for path, file in listed.files.items()
    }
    return release.sampled(files.values(), lambda item: item[0])
